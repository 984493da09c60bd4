package remote

import (
	"context"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// TestPythonFaults are those that are answered, and change nothing.
func TestPythonFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		frames []string
	}{
		{"42 append of a key alone", []string{"append", "k"}},
		{"42 odd append", []string{"append", "k", "v", "k2"}},
		{"43 iset with 1 frame", []string{"iset", "k"}},
		{"43 iset with 3 frames", []string{"iset", "k", "v", "x"}},
		{"44 unknown command", []string{"explode", "k"}},
		{"44 almost a command", []string{"append ", "k", "v"}},
		{"45 empty command", []string{"", "k", "v"}},
		{"45 empty message", []string{""}},
		{"51 close without the right", []string{"close"}},
		{"drop with a key", []string{"drop", "k"}},
		{"key too long", []string{"append", "k", "v", strings.Repeat("k", partd.MaxKeyLen+1), "v"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := partd.NewDict()
			s, url := serve(t, store, nil)
			p := openPeer(t, url)
			p.send(message(c.frames...))
			p.wantError()
			st, err := store.Stat(context.Background())
			if must(t, err); st.Keys > 0 {
				t.Errorf("something was applied: %+v", st)
			}
			p.send(message("syn"))
			p.want(acked)
			select {
			case <-s.CloseRequested():
				t.Error("the server ends")
			default:
			}
		})
	}
}

// TestPythonCommands are all commands, byte by byte.
func TestPythonCommands(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{AllowClose: true})
	p := openPeer(t, url)
	for _, c := range []struct {
		send []string
		want [][]byte
	}{
		{[]string{"syn"}, [][]byte{acked}},
		{[]string{"append", "x", "1", "y", "", "x", "2"}, [][]byte{acked}},
		{[]string{"append"}, [][]byte{acked}},
		{[]string{"append", "a-|-b", "tuple"}, [][]byte{acked}},
		{[]string{"iset", "i", "first"}, [][]byte{acked}},
		{[]string{"iset", "i", "second"}, [][]byte{acked}},
		{[]string{"get", "x", "none", "i", "a-|-b", "y"}, [][]byte{message("12", "", "first", "tuple", ""), acked}},
		{[]string{"get"}, [][]byte{acked}},
		{[]string{"delete", "x", "none"}, [][]byte{acked}},
		{[]string{"delete"}, [][]byte{acked}},
		{[]string{"get", "x"}, [][]byte{message(""), acked}},
		{[]string{"append", "long", strings.Repeat("v", 300_000)}, [][]byte{acked}},
		{[]string{"get", "i", "long", "i"}, [][]byte{message("first", strings.Repeat("v", 300_000), "first"), acked}},
		{[]string{"drop"}, [][]byte{acked}},
		{[]string{"get", "i"}, [][]byte{message(""), acked}},
		{[]string{"close"}, [][]byte{acked}},
	} {
		p.send(message(c.send...))
		p.want(join(c.want...))
	}
	<-s.CloseRequested()
}
