package remote

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestInvalidPythonRequests(t *testing.T) {
	for _, c := range []struct {
		name   string
		frames []string
	}{
		{"append without a value", []string{"append", "k"}},
		{"append with one value for two keys", []string{"append", "k", "v", "k2"}},
		{"iset with 1 frame", []string{"iset", "k"}},
		{"iset with 3 frames", []string{"iset", "k", "v", "x"}},
		{"unknown command", []string{"explode", "k"}},
		{"beginning of a command", []string{"appen", "k", "v"}},
		{"command with a trailing space", []string{"append ", "k", "v"}},
		{"empty command", []string{"", "k", "v"}},
		{"empty message", []string{""}},
		{"close without the right", []string{"close"}},
		{"drop with a key", []string{"drop", "k"}},
		{"key too long", []string{"append", "k", "v", strings.Repeat("k", partd.MaxKeyLen+1), "v"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := partd.NewDict()
			s, url := serve(t, store, nil)
			p := openPeer(t, url)
			p.send(message(c.frames...))
			p.wantError()
			if st := must.Get(store.Stat(context.Background()))(t); st.Keys > 0 {
				t.Errorf("the invalid request changed the store: %+v", st)
			}
			p.send(message("syn"))
			p.wantBytes(acked)
			select {
			case <-s.CloseRequested():
				t.Error("the request made the server stop")
			default:
			}
		})
	}
}

// TestPythonMessageTooLarge checks that a change over the limit is read, discarded and
// answered with an error, and that the connection stays usable. An endless message ends
// the connection. So does a get that is too large, because its client would mistake an error for a
// value.
func TestPythonMessageTooLarge(t *testing.T) {
	opts := &ServerOptions{MaxMessage: minMessage, StallTimeout: 2 * time.Second}
	value := strings.Repeat("v", 200_000)
	moreFrame := func(frame string) []byte { return zmtp.AppendFrame(nil, []byte(frame), true) }
	t.Run("large changes", func(t *testing.T) {
		store := partd.NewDict()
		s, url := serve(t, store, opts)
		p := openPeer(t, url)
		ping := zmtp.AppendCommand(nil, "PING", []byte{0, 0})
		for _, large := range [][]byte{
			message("append", "k", strings.Repeat("v", 3*(minMessage+headerRoom)-2000)),
			message("append", "k", value, "k2", value, "k3", value),
			joinBytes(moreFrame("append"), moreFrame("k"), moreFrame(value), moreFrame("k2"), moreFrame(value), ping, message("k3", "")),
			message("iset", "k", strings.Repeat("v", minMessage+headerRoom)),
			message("delete", value, value),
		} {
			p.send(large, message("append", "small", "v"))
			p.wantError()
			p.wantBytes(acked)
		}
		if v := must.Get(store.Get(t.Context(), "k", "k2", "small"))(t); strings.Join(toStrings(v), "") != "vvvvv" {
			t.Errorf("the store has %.100q, want only the small values", v)
		}
		p.send(message("get", "small"))
		p.wantBytes(joinBytes(message("vvvvv"), acked))
		if used := s.memoryUsed(); used > 256<<10 {
			t.Errorf("%d bytes of memory are still in use, want at most 256 KiB", used)
		}
	})
	for name, large := range map[string][]byte{
		"get":             message("get", value, value),
		"endless frame":   joinBytes(moreFrame("append"), longHeader(0, 1<<62)),
		"many frames":     message("append", "k", value, "k", value, "k", value, "k", value, "k", value),
		"truncated":       message("append", "k", value, "k", value, "k", value)[:400_000],
		"unknown command": message("appendix", value, value),
		"large command":   message(strings.Repeat("append", 60_000), "k", value),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := serve(t, partd.NewDict(), opts)
			p := openPeer(t, url)
			go p.Write(large) // fails if the server closes the connection
			p.wantClosed()
		})
	}
}

// TestPythonWithoutMemory checks that a change gets an answer even if the server has no memory for it.
func TestPythonWithoutMemory(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{StallTimeout: 500 * time.Millisecond})
	giveBack := takeAll(t, s)
	p := openPeer(t, url)
	p.send(message("append", "k", strings.Repeat("v", 100_000)))
	p.wantError()
	giveBack()
	p.send(message("append", "k", "v"), message("get", "k"))
	p.wantBytes(joinBytes(acked, message("v"), acked))
}
