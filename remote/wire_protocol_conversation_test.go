package remote

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
)

// recordedMessage is a line of testdata/conversation.txt, which explains its fields.
type recordedMessage struct {
	line       int
	fromClient bool
	fields     []string
}

func recordedConversation(t *testing.T) (messages []recordedMessage) {
	for i, line := range strings.Split(string(must.Get(os.ReadFile("testdata/conversation.txt"))(t)), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		messages = append(messages, recordedMessage{i + 1, fields[0] == ">", fields[1:]})
	}
	return messages
}

// encode returns the message's bytes. chosen has the bytes of named fields; encode chooses those that it lacks.
func (m recordedMessage) encode(t *testing.T, chosen map[string][]byte) []byte {
	var b []byte
	for _, field := range m.fields {
		name, size, isNew := strings.Cut(field, ":")
		switch {
		case isNew:
			chosen[name] = bytes.Repeat([]byte{byte(0x50 + len(chosen))}, must.Get(strconv.Atoi(size))(t))
			b = append(b, chosen[name]...)
		case chosen[name] != nil:
			b = append(b, chosen[name]...)
		default:
			b = append(b, must.Get(hex.DecodeString(field))(t)...)
		}
	}
	return b
}

// compare compares a received message with m. It adds the bytes of new named fields to chosen.
func (m recordedMessage) compare(t *testing.T, received []byte, chosen map[string][]byte) error {
	pos := 0
	for _, field := range m.fields {
		if name, size, isNew := strings.Cut(field, ":"); isNew {
			end := min(len(received), pos+must.Get(strconv.Atoi(size))(t))
			chosen[name], pos = bytes.Clone(received[pos:end]), end
			continue
		}
		want := recordedMessage{fields: []string{field}}.encode(t, chosen)
		if !bytes.HasPrefix(received[pos:], want) {
			return fmt.Errorf("conversation.txt:%d: byte %d of the message is not %s: %x", m.line, pos, field, received)
		}
		pos += len(want)
	}
	if pos != len(received) {
		return fmt.Errorf("conversation.txt:%d: the message has %d bytes, want %d: %x", m.line, len(received), pos, received)
	}
	return nil
}

// TestServerRepeatsConversation sends the recorded requests to a server. Its replies must be the recorded ones.
func TestServerRepeatsConversation(t *testing.T) {
	_, url := serve(t, partd.NewDict(), nil)
	p := openPeer(t, url)
	replies := zmtp.NewReader(p, nil, zmtp.ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 1})
	chosen := map[string][]byte{}
	for _, m := range recordedConversation(t) {
		if m.fromClient {
			p.send(message(string(m.encode(t, chosen))))
			continue
		}
		must.Do(t, m.compare(t, must.Get(replies.Next())(t)[0], chosen))
	}
}

// TestClientRepeatsConversation gives a client the recorded replies. Its requests must be the recorded ones.
func TestClientRepeatsConversation(t *testing.T) {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		defer l.Close()
		rest, err := zmtp.Open(c, zmtp.Router, 5*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		requests := zmtp.NewReader(c, rest, zmtp.ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 1})
		chosen := map[string][]byte{}
		for _, m := range recordedConversation(t) {
			if !m.fromClient {
				_, _ = c.Write(message(string(m.encode(t, chosen)))) // if the client has left, it sends no further request
				continue
			}
			frames, err := requests.Next()
			if err == nil {
				err = m.compare(t, bytes.Join(frames, nil), chosen)
			}
			if err != nil {
				t.Errorf("after line %d: %v", m.line, err)
				return
			}
		}
	}()
	c := must.Get(Dial(t.Context(), URL(l.Addr()), &ClientOptions{RetryFor: time.Second}))(t)
	want := func(got, want any, err error) {
		t.Helper()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	}
	must.Do(t, c.Append(t.Context(), entry("k", "value"), entry("empty", "")))
	got, err := c.Get(t.Context(), "k", "missing")
	want(got, [][]byte{[]byte("value"), nil}, err)
	must.Do(t, c.Set(t.Context(), "s", []byte("new")))
	must.Do(t, c.SetOnce(t.Context(), "s", []byte("old")))
	must.Do(t, c.Append(t.Context(), entry("k", "more")))
	stats, err := c.Stat(t.Context())
	want([]any{stats.Keys, stats.Bytes, stats.Changes}, []any{2, 12, 4}, err)
	must.Do(t, c.Delete(t.Context(), "s"))
	var items []string
	for k, err := range c.Keys(t.Context()) {
		must.Do(t, err)
		items = append(items, fmt.Sprint(k.Key, k.Size))
	}
	for chunk, err := range c.Scan(t.Context()) {
		must.Do(t, err)
		items = append(items, fmt.Sprintf("%s %s %d %v", chunk.Key, chunk.Data, chunk.Offset, chunk.Last))
	}
	want(items, []string{"k9", "k valuemore 0 true"}, nil)
	r := must.Get(c.Open(t.Context(), "k"))(t)
	b, err := io.ReadAll(r)
	want(string(b), "valuemore", err)
	got, err = c.Pop(t.Context(), "k")
	want(got, [][]byte{[]byte("valuemore")}, err)
	if err := c.Flush(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Flush = %v, want the recorded error", err)
	}
	must.Do(t, c.Drop(t.Context()))
	must.Do(t, c.Close())
	<-served
}
