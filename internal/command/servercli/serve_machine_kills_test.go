package servercli_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

// mortalClient is a client whose server is sometimes killed (SIGKILL) and restarted during an operation.
//
// If the server's store is a Buffer, a kill loses unflushed data. So the client flushes the store before
// an operation with a kill. Afterwards, each key must have its value from before or after the
// operation, and the client repeats lost changes.
type mortalClient struct {
	*remote.Client
	t        *testing.T
	rnd      *rand.Rand
	process  *procs.Server
	store    string
	address  string
	buffered bool
	kills    *int
}

func newMortal(t *testing.T, scheme string, kills *int) *mortalClient {
	m := &mortalClient{
		t: t, store: scheme + t.TempDir() + "/data", kills: kills, buffered: scheme == "buffer+file:",
		rnd: procs.Rand(t),
	}
	if m.buffered {
		m.store += "?memory=4KiB" // so small that most appends flush something
	}
	m.process = m.start("127.0.0.1:0")
	_, m.address = m.process.Address()
	var err error
	if m.Client, err = remote.Dial(t.Context(), m.process.URL(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.process.Kill() })
	return m
}

func (m *mortalClient) start(address string) *procs.Server {
	p, err := serverAt(context.Background(), m.store, address)
	if err != nil {
		m.t.Error(err) // not Fatal, because another goroutine than the test's may run this
		return m.process
	}
	return p
}

func (m *mortalClient) isDue() bool { return m.rnd.IntN(3) == 0 }

func (m *mortalClient) whileKilled(f func() error) error {
	*m.kills++
	wait := time.Duration(m.rnd.Int64N(int64(2 * time.Millisecond)))
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		time.Sleep(wait)
		m.process.Kill()
		m.process = m.start(m.address)
	}()
	err := f()
	<-restarted
	return err
}

// contents maps keys to their values. A nil value means that the key does not exist.
type contents map[string]*string

func (m *mortalClient) readState(ctx context.Context) (contents, error) {
	all := contents{}
	for c, err := range m.Client.Scan(ctx) {
		if err != nil {
			return nil, err
		}
		if all[c.Key] == nil {
			all[c.Key] = new(string)
		}
		*all[c.Key] += string(c.Data)
	}
	return all, nil
}

// change calls f, which makes a change, and sometimes kills the server during f. effect changes the expected content.
func (m *mortalClient) change(ctx context.Context, f func() error, effect func(contents)) error {
	if !m.isDue() {
		return f()
	}
	if !m.buffered {
		return m.whileKilled(f)
	}
	if err := m.Client.Flush(ctx); err != nil {
		return err
	}
	before, err := m.readState(ctx)
	if err != nil {
		return err
	}
	want := contents{}
	for k, v := range before {
		want[k] = v
	}
	effect(want)
	if err := m.whileKilled(f); err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		return err
	}
	now, err := m.readState(ctx)
	if err != nil {
		return err
	}
	keys := map[string]struct{}{}
	for _, h := range []contents{before, want, now} {
		for k := range h {
			keys[k] = struct{}{}
		}
	}
	for k := range keys {
		switch {
		case equalValues(now[k], want[k]):
		case !equalValues(now[k], before[k]):
			return fmt.Errorf("after a kill, key %q has %s; want %s as before, or %s", k, quoteValue(now[k]), quoteValue(before[k]), quoteValue(want[k]))
		case want[k] == nil:
			err = m.Client.Delete(ctx, k)
		default:
			err = m.Client.Set(ctx, k, []byte(*want[k]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func equalValues(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

func quoteValue(v *string) string {
	if v == nil {
		return "nothing"
	}
	return fmt.Sprintf("%d bytes %.30q", len(*v), *v)
}

func (h contents) append(entries []partd.Entry) {
	for _, e := range entries {
		if len(e.Value) == 0 {
			continue
		}
		v := string(e.Value)
		if h[e.Key] != nil {
			v = *h[e.Key] + v
		}
		h[e.Key] = &v
	}
}

func (m *mortalClient) Append(ctx context.Context, entries ...partd.Entry) error {
	return m.change(ctx, func() error { return m.Client.Append(ctx, entries...) }, func(h contents) { h.append(entries) })
}

func (m *mortalClient) Set(ctx context.Context, key string, value []byte) error {
	return m.change(ctx, func() error { return m.Client.Set(ctx, key, value) }, func(h contents) { v := string(value); h[key] = &v })
}

func (m *mortalClient) SetOnce(ctx context.Context, key string, value []byte) error {
	return m.change(ctx, func() error { return m.Client.SetOnce(ctx, key, value) }, func(h contents) {
		if v := string(value); h[key] == nil {
			h[key] = &v
		}
	})
}

func (m *mortalClient) Delete(ctx context.Context, keys ...string) error {
	return m.change(ctx, func() error { return m.Client.Delete(ctx, keys...) }, func(h contents) {
		for _, k := range keys {
			delete(h, k)
		}
	})
}

func (m *mortalClient) Drop(ctx context.Context) error {
	return m.change(ctx, func() error { return m.Client.Drop(ctx) }, func(h contents) { clear(h) })
}

func (m *mortalClient) Flush(ctx context.Context) error {
	return m.change(ctx, func() error { return m.Client.Flush(ctx) }, func(contents) {})
}

func (m *mortalClient) Sync(ctx context.Context) error {
	return m.change(ctx, func() error { return m.Client.Sync(ctx) }, func(contents) {})
}

func (m *mortalClient) Get(ctx context.Context, keys ...string) (values [][]byte, err error) {
	err = m.change(ctx, func() error {
		values, err = m.Client.Get(ctx, keys...)
		return err
	}, func(contents) {})
	return values, err
}

// Pop kills the server only before the operation, because a kill during a pop makes its outcome unknown.
func (m *mortalClient) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := m.change(ctx, func() error { return nil }, func(contents) {}); err != nil {
		return nil, err
	}
	return m.Client.Pop(ctx, keys...)
}

func (m *mortalClient) Close() error {
	err := m.Client.Close()
	m.process.Kill()
	return err
}

// TestMachineWithKills runs the state machine of partdtest on a mortalClient.
func TestMachineWithKills(t *testing.T) {
	t.Parallel()
	runs := max(3, procs.Kills(t, 0)/10)
	for _, scheme := range []string{"buffer+file:", "log:", "file:"} {
		t.Run(scheme, func(t *testing.T) {
			kills := 0
			partdtest.StateMachine(t, func(t *testing.T) partd.Partd { return newMortal(t, scheme, &kills) }, &partdtest.Options{MachineRuns: runs})
			t.Logf("%d kills", kills)
			if kills < runs {
				t.Errorf("in %d runs, the server was killed only %d times, want at least once per run", runs, kills)
			}
		})
	}
}
