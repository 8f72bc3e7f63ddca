package dsv4

// #include <dsv4.h>
import "C"

import (
	"errors"
	"unsafe"
)

// A Tokenizer turns text into tokens and back.
type Tokenizer struct {
	handle *C.dsv4_tokenizer
	// BOS begins a text and EOS ends one, where the vocabulary has such tokens; NoToken otherwise.
	BOS, EOS uint32
}

// NoToken stands where there is none.
const NoToken = uint32(C.DSV4_NO_TOKEN)

func newTokenizer(m *Model) (*Tokenizer, error) {
	t := &Tokenizer{}
	details := newDetails()
	params := C.dsv4_tokenizer_params{size: C.sizeof_dsv4_tokenizer_params, model: m.handle}
	if err := check(C.dsv4_tokenizer_new(&params, &t.handle, details), details); err != nil {
		return nil, err
	}
	info := C.dsv4_tokenizer_info{size: C.sizeof_dsv4_tokenizer_info}
	if err := t.check(C.dsv4_tokenizer_get_info(t.handle, &info)); err != nil {
		return nil, err
	}
	t.BOS, t.EOS = uint32(info.bos), uint32(info.eos)
	return t, nil
}

func (t *Tokenizer) check(status C.dsv4_status) error {
	if status == C.DSV4_OK {
		return nil
	}
	details := newDetails()
	C.dsv4_tokenizer_last_error(t.handle, details)
	return check(status, details)
}

// Encode gives the tokens of text, all of it plain: for what strangers say.
func (t *Tokenizer) Encode(text string) ([]uint32, error) { return t.encode(text, 0) }

// EncodeSpecial recognizes added tokens in text, <think> and its like: for what a program writes.
func (t *Tokenizer) EncodeSpecial(text string) ([]uint32, error) { return t.encode(text, 1) }

func (t *Tokenizer) encode(text string, special C.int) ([]uint32, error) {
	bytes, tokens := []byte(text), make([]uint32, len(text)) // at most one a byte
	var count C.size_t
	err := t.check(C.dsv4_tokenizer_encode(t.handle, (*C.char)(first(bytes)), C.size_t(len(bytes)), special,
		(*C.uint32_t)(first(tokens)), C.size_t(len(tokens)), &count))
	if err != nil {
		return nil, err
	}
	return tokens[:count], nil
}

// Decode gives the text of tokens; what is not UTF-8 stays as it is.
func (t *Tokenizer) Decode(tokens []uint32) (string, error) {
	var size C.size_t
	decode := func(text []byte) error {
		return t.check(C.dsv4_tokenizer_decode(t.handle, (*C.uint32_t)(first(tokens)), C.size_t(len(tokens)),
			(*C.char)(first(text)), C.size_t(len(text)), &size))
	}
	if err := decode(nil); err != nil {
		return "", err
	}
	text := make([]byte, size)
	err := decode(text)
	return string(text), err
}

// Chat gives the prompt of a conversation's first turn, without thinking.
func (t *Tokenizer) Chat(user string) ([]uint32, error) {
	before, err1 := t.EncodeSpecial("<｜begin▁of▁sentence｜><｜User｜>")
	plain, err2 := t.Encode(user)
	after, err3 := t.EncodeSpecial("<｜Assistant｜></think>")
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, err
		}
	}
	return append(append(before, plain...), after...), nil
}

// A stream makes text of tokens as they come: pieces are whole characters.
type stream struct {
	tokenizer *Tokenizer
	state     C.dsv4_stream
}

func (s *stream) push(token uint32) (string, error) {
	text := make([]byte, 64)
	for {
		var size C.size_t
		err := s.tokenizer.check(C.dsv4_tokenizer_stream(s.tokenizer.handle, &s.state, C.uint32_t(token),
			(*C.char)(first(text)), C.size_t(len(text)), &size))
		var refused *Error
		if errors.As(err, &refused) && refused.Need > uint64(len(text)) {
			text = make([]byte, refused.Need)
			continue
		}
		return string(text[:size]), err
	}
}

func (s *stream) end() string {
	var size C.size_t
	text := make([]byte, 8)
	C.dsv4_stream_end(&s.state, (*C.char)(first(text)), C.size_t(len(text)), &size)
	return string(text[:size])
}

// first points to a slice's first value, or nowhere.
func first[T any](values []T) unsafe.Pointer {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Pointer(&values[0])
}
