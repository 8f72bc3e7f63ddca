// Package dsv4 runs DeepSeek-V4 models: the C library libdsv4, through cgo and pkg-config.
//
//	model, err := dsv4.Open("model.gguf", dsv4.ModelOptions{})
//	session, err := model.NewSession(dsv4.SessionOptions{})
//	prompt, err := session.Tokenizer().Chat("Why is the sky blue?")
//	_, err = session.Generate(ctx, prompt, dsv4.GenerateOptions{}, func(piece string) { fmt.Print(piece) })
//
// A Model and a Tokenizer do not change and may be used by any number of goroutines. A Session and a Sampler do one call at a
// time; a second one at the same moment gets Busy. All of them hold memory that Go does not see: Close gives it back.
//
// Errors are of type *Error; errors.Is(err, dsv4.ContextFull) and its like ask for a kind. A context that is done ends an
// evaluation within a layer's time, and its error is the context's; the session keeps what was evaluated before.
package dsv4

/*
#cgo pkg-config: dsv4
#include "callbacks.h"
#include <stdlib.h>
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// A Status is a kind of error; its numbers are permanent, and those of the C header.
type Status int32

// The kinds that programs ask for; Error.Status may be any other of the header's.
const (
	BadArgument          = Status(C.DSV4_BAD_ARGUMENT)
	BadToken             = Status(C.DSV4_BAD_TOKEN)
	Busy                 = Status(C.DSV4_BUSY)
	CannotRewind         = Status(C.DSV4_CANNOT_REWIND)
	ContextFull          = Status(C.DSV4_CONTEXT_FULL)
	IO                   = Status(C.DSV4_IO)
	NotSnapshot          = Status(C.DSV4_NOT_SNAPSHOT)
	SnapshotDamaged      = Status(C.DSV4_SNAPSHOT_DAMAGED)
	SnapshotOfOtherModel = Status(C.DSV4_SNAPSHOT_OF_OTHER_MODEL)
)

// Error gives the name of the header, DSV4_CONTEXT_FULL say.
func (s Status) Error() string { return C.GoString(C.dsv4_status_name(C.int32_t(s))) }

// An Error says what the library refused, and why.
type Error struct {
	Status  Status
	Message string // a sentence
	Name    string // the tensor or key in question, if any
	Need    uint64 // bytes needed, where memory was too small
	At      uint64 // offset in the file, where there is one
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Status.Error()
	}
	return e.Message
}

// Unwrap gives the status, for errors.Is.
func (e *Error) Unwrap() error { return e.Status }

// check makes an error of a status, with the details if they are about it.
func check(status C.dsv4_status, details *C.dsv4_error) error {
	if status == C.DSV4_OK {
		return nil
	}
	made := &Error{Status: Status(status)}
	if details != nil && details.status == C.int32_t(status) {
		made.Message, made.Name = C.GoString(&details.message[0]), C.GoString(&details.name[0])
		made.Need, made.At = uint64(details.need), uint64(details.at)
	}
	return made
}

func newDetails() *C.dsv4_error { return &C.dsv4_error{size: C.sizeof_dsv4_error} }

// Version is the library's.
func Version() string { return C.GoString(C.dsv4_version()) }

// ModelOptions are what a model is opened with; zero is the default of each.
type ModelOptions struct {
	// Threads that a session works with: 0 as many as there are physical cores.
	Threads int
	// Log takes one line; level is 0 for errors, 1 for warnings, 2 for information.
	Log func(level int, line string)
}

// A Model is a loaded model.
type Model struct {
	handle    *C.dsv4_model
	tokenizer *Tokenizer
	log       cgo.Handle
}

// Open maps the .gguf file at path, or the first of its splits, which must not change before Close.
func Open(path string, options ModelOptions) (*Model, error) {
	m := &Model{}
	params := C.dsv4_model_params{size: C.sizeof_dsv4_model_params, threads: C.uint32_t(options.Threads)}
	params.path = C.CString(path)
	defer C.free(unsafe.Pointer(params.path))
	if options.Log != nil {
		m.log = cgo.NewHandle(options.Log)
	}
	details := newDetails()
	if err := check(C.open_model(&params, C.uintptr_t(m.log), &m.handle, details), details); err != nil {
		m.Close()
		return nil, err
	}
	tokenizer, err := newTokenizer(m)
	if err != nil {
		m.Close()
		return nil, err
	}
	m.tokenizer = tokenizer
	return m, nil
}

// Close frees the model: Busy, and nothing is freed, while it has sessions. Again does nothing.
func (m *Model) Close() error {
	if err := check(C.dsv4_model_free(m.handle), nil); err != nil {
		return err
	}
	if m.tokenizer != nil {
		C.dsv4_tokenizer_free(m.tokenizer.handle)
	}
	if m.log != 0 {
		m.log.Delete()
	}
	*m = Model{}
	return nil
}

// Tokenizer is the model's, until Close.
func (m *Model) Tokenizer() *Tokenizer { return m.tokenizer }

// ModelInfo is what a model is.
type ModelInfo struct {
	Vocab, Context, Layers, Hidden, Experts, ExpertsUsed int
	WeightBytes, MemoryBytes                             uint64
}

// Info tells what the model is.
func (m *Model) Info() (ModelInfo, error) {
	info := C.dsv4_model_info{size: C.sizeof_dsv4_model_info}
	err := check(C.dsv4_model_get_info(m.handle, &info), nil)
	return ModelInfo{
		Vocab: int(info.vocab), Context: int(info.context), Layers: int(info.layers), Hidden: int(info.hidden),
		Experts: int(info.experts), ExpertsUsed: int(info.experts_used),
		WeightBytes: uint64(info.weight_bytes), MemoryBytes: uint64(info.memory_bytes),
	}, err
}

//export dsv4GoLog
func dsv4GoLog(user C.uintptr_t, level C.int, line *C.char) {
	cgo.Handle(user).Value().(func(int, string))(int(level), C.GoString(line))
}
