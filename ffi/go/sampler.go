package dsv4

// #include <dsv4.h>
import "C"

// SamplerOptions say how tokens are chosen. Zero takes the likeliest.
type SamplerOptions struct {
	// Temperature 1 draws from the model's own distribution.
	Temperature float32
	// TopK, TopP and MinP cut what is unlikely; 0 cuts nothing.
	TopK       uint32
	TopP, MinP float32
	// Repetition, Presence and Frequency hold down recent tokens; 0 does nothing.
	Repetition, Presence, Frequency float32
	// Seed: the same one gives the same tokens on every machine.
	Seed uint64
}

// A Sampler chooses tokens by logits.
type Sampler struct{ handle *C.dsv4_sampler }

// NewSampler makes a sampler for a vocabulary of so many tokens.
func NewSampler(vocab int, options SamplerOptions) (*Sampler, error) {
	s, details := &Sampler{}, newDetails()
	params := C.dsv4_sampler_params{
		size: C.sizeof_dsv4_sampler_params, vocab: C.size_t(vocab), seed: C.uint64_t(options.Seed),
		temperature: C.float(options.Temperature), top_k: C.uint32_t(options.TopK), top_p: C.float(options.TopP),
		min_p: C.float(options.MinP), repetition: C.float(options.Repetition), presence: C.float(options.Presence),
		frequency: C.float(options.Frequency),
	}
	if err := check(C.dsv4_sampler_new(&params, &s.handle, details), details); err != nil {
		return nil, err
	}
	return s, nil
}

// Sample chooses a token by one row of logits, which it spoils; recent are the tokens to hold down.
func (s *Sampler) Sample(logits []float32, recent []uint32) (uint32, error) {
	var token C.uint32_t
	status := C.dsv4_sampler_sample(s.handle, (*C.float)(first(logits)), C.size_t(len(logits)),
		(*C.uint32_t)(first(recent)), C.size_t(len(recent)), nil, 0, &token)
	if status == C.DSV4_OK {
		return uint32(token), nil
	}
	details := newDetails()
	C.dsv4_sampler_last_error(s.handle, details)
	return 0, check(status, details)
}

// Close frees the sampler. Again does nothing.
func (s *Sampler) Close() error {
	err := check(C.dsv4_sampler_free(s.handle), nil)
	if err == nil {
		s.handle = nil
	}
	return err
}
