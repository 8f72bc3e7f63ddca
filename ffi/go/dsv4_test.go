package dsv4

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const path = "../model/small.gguf"

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func open(t *testing.T, options SessionOptions) *Session {
	model := must[*Model](t)(Open(path, ModelOptions{}))
	session := must[*Session](t)(model.NewSession(options))
	t.Cleanup(func() {
		for _, closer := range []interface{ Close() error }{session, model, session, model} {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return session
}

// TestTheTokensOfTheCommand asks the command that DSV4 names for the same answer.
func TestTheTokensOfTheCommand(t *testing.T) {
	const question, most = "Tell me a story.", 40
	out := must[[]byte](t)(exec.Command(os.Getenv("DSV4"), "run", path, "-p", question, "-n", strconv.Itoa(most), "--json").Output())
	var command struct {
		Text   string
		Tokens []uint32
	}
	if err := json.Unmarshal(out, &command); err != nil {
		t.Fatal(err)
	}
	session := open(t, SessionOptions{Context: 256})
	prompt := must[[]uint32](t)(session.Tokenizer().Chat(question))
	var text strings.Builder
	made := must[[]uint32](t)(session.Generate(context.Background(), prompt, GenerateOptions{MaxTokens: most},
		func(piece string) { text.WriteString(piece) }))
	if len(made) < 20 || !reflect.DeepEqual(made, command.Tokens) || text.String() != command.Text {
		t.Errorf("%v %q, and the command: %v %q", made, text.String(), command.Tokens, command.Text)
	}
	if decoded := must[string](t)(session.Tokenizer().Decode(made)); decoded != text.String() {
		t.Errorf("pieces %q, whole %q", text.String(), decoded)
	}
}

func TestContextsCancel(t *testing.T) {
	session := open(t, SessionOptions{Context: 2048, Batch: 8})
	tokens := make([]uint32, 2000)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := session.Eval(ctx, tokens, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	held := must[[]uint32](t)(session.Tokens())
	if len(held) == len(tokens) || len(held)%8 != 0 {
		t.Errorf("%d tokens stay", len(held))
	}
	// What is there stays good, and no later call is cancelled.
	if err := session.Eval(context.Background(), tokens[:9], nil); err != nil {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	prompt := must[[]uint32](t)(session.Tokenizer().Chat("Tell me a story."))
	made, err := session.Generate(ctx, prompt, GenerateOptions{}, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) || len(made) == 0 || len(made) > 3 {
		t.Error(made, err)
	}
}

func TestSavedSessionsGoOnElsewhere(t *testing.T) {
	ctx, session := context.Background(), open(t, SessionOptions{Context: 256})
	other := must[*Session](t)(session.Model().NewSession(SessionOptions{Context: 100, Batch: 7}))
	defer other.Close()
	vocab := must[ModelInfo](t)(session.Model().Info()).Vocab
	eval := func(session *Session, tokens ...uint32) []float32 {
		logits := make([]float32, vocab)
		if err := session.Eval(ctx, tokens, logits); err != nil {
			t.Fatal(err)
		}
		return logits
	}
	for i := uint32(0); i < 90; i++ {
		eval(session, i*7%500)
	}
	snapshot := must[[]byte](t)(session.Save())
	if err := other.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(eval(session, 1, 2, 3), eval(other, 1, 2, 3)) {
		t.Error("other logits after restoring")
	}
	if err := other.Restore(snapshot[1:]); !errors.Is(err, NotSnapshot) {
		t.Error(err)
	}
	if err := other.Restore(snapshot[:1000]); !errors.Is(err, SnapshotDamaged) {
		t.Error(err)
	}
	if held := must[[]uint32](t)(other.Tokens()); len(held) != 93 {
		t.Error("a snapshot that was refused changed the session")
	}
}

func TestErrorsTell(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none.gguf"), ModelOptions{})
	if !errors.Is(err, IO) || !strings.Contains(err.Error(), "none.gguf") {
		t.Error(err)
	}
	var lines []string
	model := must[*Model](t)(Open(path, ModelOptions{Threads: 1, Log: func(_ int, line string) { lines = append(lines, line) }}))
	session := must[*Session](t)(model.NewSession(SessionOptions{Context: 4}))
	if len(lines) != 2 || Version() == "" {
		t.Error(lines)
	}
	if err := session.Eval(context.Background(), []uint32{1, 2, 3, 4, 5}, nil); !errors.Is(err, ContextFull) {
		t.Error(err)
	}
	if err := session.Eval(context.Background(), []uint32{1 << 30}, nil); !errors.Is(err, BadToken) {
		t.Error(err)
	}
	if err := model.Close(); !errors.Is(err, Busy) {
		t.Error(err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	if err := model.Close(); err != nil {
		t.Error(err)
	}
}

func TestGoroutines(t *testing.T) {
	session := open(t, SessionOptions{Context: 2048})
	prompt := must[[]uint32](t)(session.Tokenizer().Chat("What is 3 + 4?"))
	answer := func(session *Session) []uint32 {
		made, err := session.Generate(context.Background(), prompt, GenerateOptions{MaxTokens: 12}, nil)
		if err != nil {
			t.Error(err)
		}
		return made
	}
	alone := answer(session)
	var group sync.WaitGroup
	for i := 0; i < 4; i++ {
		other := must[*Session](t)(session.Model().NewSession(SessionOptions{Context: 64}))
		group.Add(1)
		go func() {
			defer group.Done()
			defer other.Close()
			if made := answer(other); !reflect.DeepEqual(made, alone) {
				t.Errorf("%v, and alone %v", made, alone)
			}
		}()
	}
	group.Wait()

	// One session is one goroutine's at a time: while an evaluation waits here, nobody else gets it. Its first question
	// comes before it has the session, the second from within.
	inside, seen := make(chan struct{}), make(chan struct{})
	asked := 0
	ctx := watched{context.Background(), func() {
		if asked++; asked == 2 {
			close(inside)
			<-seen
		}
	}}
	done := make(chan error)
	go func() { done <- session.Eval(ctx, make([]uint32, 1000), nil) }()
	select {
	case <-inside:
	case err := <-done:
		t.Fatal("not asked meanwhile", err)
	}
	if err := session.Rewind(0); !errors.Is(err, Busy) {
		t.Error(err)
	}
	close(seen)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A context that is told when it is asked.
type watched struct {
	context.Context
	asked func()
}

func (w watched) Done() <-chan struct{} { return make(chan struct{}) }
func (w watched) Err() error            { w.asked(); return nil }
