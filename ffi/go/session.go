package dsv4

// #include "callbacks.h"
import "C"

import (
	"context"
	"errors"
	"runtime/cgo"
	"sync"
)

// SessionOptions are what a session is made for; zero is the default of each.
type SessionOptions struct {
	Context int  // tokens at most; 0: 4096, or the model's if that is less
	Batch   int  // tokens evaluated together
	Rewind  int  // tokens that Rewind can go back, at least
	Exact   bool // multiply without rounding activations to 8 bits
}

// A Session is one timeline over a model: tokens in, logits out.
type Session struct {
	model  *Model
	vocab  int
	handle *C.dsv4_session
	user   cgo.Handle // of this session, for the callback
	mutex  sync.Mutex // held by the call that uses the session
	ctx    context.Context
}

// NewSession makes an empty session.
func (m *Model) NewSession(options SessionOptions) (*Session, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	params := C.dsv4_session_params{
		size: C.sizeof_dsv4_session_params, context: C.size_t(options.Context), batch: C.size_t(options.Batch),
		rewind: C.size_t(options.Rewind),
	}
	if options.Exact {
		params.matmul = C.DSV4_MATMUL_EXACT
	}
	s, details := &Session{model: m, vocab: info.Vocab}, newDetails()
	if err := check(C.dsv4_session_new(m.handle, &params, &s.handle, details), details); err != nil {
		return nil, err
	}
	s.user = cgo.NewHandle(s)
	return s, nil
}

// use runs call, unless another call uses the session.
func (s *Session) use(call func() C.dsv4_status) error {
	if !s.mutex.TryLock() {
		return &Error{Status: Busy}
	}
	defer s.mutex.Unlock()
	status := call()
	if status == C.DSV4_OK {
		return nil
	}
	details := newDetails()
	C.dsv4_session_last_error(s.handle, details)
	return check(status, details)
}

// Close frees the session; do so before its model. Again does nothing.
func (s *Session) Close() error {
	if s.handle == nil {
		return nil
	}
	err := s.use(func() C.dsv4_status { return C.dsv4_session_free(s.handle) })
	if err == nil {
		s.handle = nil
		s.user.Delete()
	}
	return err
}

// Model is the session's.
func (s *Session) Model() *Model { return s.model }

// Tokenizer is the model's.
func (s *Session) Tokenizer() *Tokenizer { return s.model.tokenizer }

// Eval appends tokens. logits takes the last one's row (of ModelInfo.Vocab), every token's, or is nil.
func (s *Session) Eval(ctx context.Context, tokens []uint32, logits []float32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.use(func() C.dsv4_status {
		if ctx.Done() != nil {
			s.ctx = ctx
			C.watch(s.handle, C.uintptr_t(s.user))
			defer C.watch(s.handle, 0)
		}
		return C.dsv4_session_eval(s.handle, (*C.uint32_t)(first(tokens)), C.size_t(len(tokens)),
			(*C.float)(first(logits)), C.size_t(len(logits)))
	})
	if errors.Is(err, Status(C.DSV4_CANCELLED)) {
		return ctx.Err()
	}
	return err
}

//export dsv4GoCancelled
func dsv4GoCancelled(user C.uintptr_t) C.int {
	if cgo.Handle(user).Value().(*Session).ctx.Err() != nil {
		return 1
	}
	return 0
}

// Tokens gives what the session holds.
func (s *Session) Tokens() (tokens []uint32, err error) {
	err = s.use(func() C.dsv4_status {
		var count C.size_t
		if status := C.dsv4_session_position(s.handle, &count); status != C.DSV4_OK {
			return status
		}
		tokens = make([]uint32, count+1)
		status := C.dsv4_session_tokens(s.handle, (*C.uint32_t)(first(tokens)), count+1, &count)
		tokens = tokens[:count]
		return status
	})
	return tokens, err
}

// Rewind goes back to so many tokens: what follows is as if the rest had never been.
func (s *Session) Rewind(position int) error {
	return s.use(func() C.dsv4_status { return C.dsv4_session_rewind(s.handle, C.size_t(position)) })
}

// KeepPrefix goes back to where the session and tokens part, and tells how many of them need not be evaluated again.
func (s *Session) KeepPrefix(tokens []uint32) (int, error) {
	var kept C.size_t
	err := s.use(func() C.dsv4_status {
		return C.dsv4_session_keep_prefix(s.handle, (*C.uint32_t)(first(tokens)), C.size_t(len(tokens)), &kept)
	})
	return int(kept), err
}

// Save gives the timeline as bytes, for Restore.
func (s *Session) Save() (snapshot []byte, err error) {
	err = s.use(func() C.dsv4_status {
		var size C.size_t
		if status := C.dsv4_session_snapshot_size(s.handle, &size); status != C.DSV4_OK {
			return status
		}
		snapshot = make([]byte, size)
		return C.dsv4_session_save(s.handle, first(snapshot), size, &size)
	})
	return snapshot, err
}

// Restore takes over a saved timeline of the same model in the place of this one, which stays as it is after an error.
func (s *Session) Restore(snapshot []byte) error {
	return s.use(func() C.dsv4_status {
		return C.dsv4_session_restore(s.handle, first(snapshot), C.size_t(len(snapshot)))
	})
}

// GenerateOptions say how a prompt is continued.
type GenerateOptions struct {
	Sampler   SamplerOptions
	MaxTokens int      // 0: 256
	Stop      []uint32 // the tokens that end it; nil: the model's own
}

// Generate continues the prompt, tokens from the timeline's beginning on, and tells piece by piece what it says. What the
// timeline shares with the prompt is not evaluated again. It gives the tokens that it made, without the one that ended them.
func (s *Session) Generate(ctx context.Context, prompt []uint32, options GenerateOptions, tell func(piece string)) ([]uint32, error) {
	if options.MaxTokens == 0 {
		options.MaxTokens = 256
	}
	if options.Stop == nil {
		options.Stop = []uint32{s.Tokenizer().EOS}
	}
	sampler, err := NewSampler(s.vocab, options.Sampler)
	if err != nil {
		return nil, err
	}
	defer sampler.Close()
	say := func(piece string) {
		if piece != "" && tell != nil {
			tell(piece)
		}
	}
	text := stream{tokenizer: s.Tokenizer()}
	defer func() { say(text.end()) }()

	kept, err := s.KeepPrefix(prompt)
	if err != nil {
		return nil, err
	}
	all := append([]uint32(nil), prompt...)
	logits := make([]float32, s.vocab)
	for next := kept; ; next = len(all) - 1 {
		made := all[len(prompt):]
		if err := s.Eval(ctx, all[next:], logits); err != nil {
			if len(made) > 0 && errors.Is(err, ContextFull) {
				return made, nil
			}
			return made, err
		}
		token, err := sampler.Sample(logits, all)
		if err != nil {
			return made, err
		}
		for _, stop := range options.Stop {
			if token == stop {
				return made, nil
			}
		}
		all = append(all, token)
		piece, err := text.push(token)
		say(piece)
		if err != nil || len(all)-len(prompt) == options.MaxTokens {
			return all[len(prompt):], err
		}
	}
}
