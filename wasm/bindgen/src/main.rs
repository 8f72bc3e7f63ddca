//! `dsv4-bindgen IN.wasm FOLDER`: the module and its glue as an ES module, written to FOLDER as `dsv4.js`, `dsv4.d.ts` and
//! `dsv4_bg.wasm`.

use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [input, folder] = &args[..] else {
        eprintln!("usage: dsv4-bindgen IN.wasm FOLDER");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(input).out_name("dsv4").typescript(true).omit_default_module_path(true);
    bindgen.remove_name_section(true).remove_producers_section(true);
    match bindgen.web(true).and_then(|bindgen| bindgen.generate(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsv4-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
