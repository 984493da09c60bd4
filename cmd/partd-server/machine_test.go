package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

// mortal is a client whose server is killed (SIGKILL) and restarted, before or during
// an operation.
//
// Over a Buffer, a kill loses unflushed data. So everything is flushed before an
// operation with a kill. Afterwards each key must be as before or as after the operation,
// and a lost operation is repeated.
type mortal struct {
	*remote.Client
	t        *testing.T
	rnd      *rand.Rand
	process  *serverproc.Process
	store    string
	address  string
	buffered bool
	kills    *int
}

func newMortal(t *testing.T, scheme string, kills *int) *mortal {
	m := &mortal{
		t: t, store: scheme + t.TempDir() + "/data", kills: kills, buffered: scheme == "buffer+file:",
		rnd: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)),
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

func (m *mortal) start(address string) *serverproc.Process {
	var err error
	for range 20 {
		var p *serverproc.Process
		if p, err = serverAt(context.Background(), "server", m.store, address); err == nil {
			return p
		}
		time.Sleep(50 * time.Millisecond) // another process may have the port for a moment
	}
	m.t.Error(err) // not Fatal: this may be another goroutine
	return m.process
}

// isDue reports whether the server should be killed now.
func (m *mortal) isDue() bool { return m.rnd.IntN(3) == 0 }

// whileKilled runs an operation while the server is killed and restarted.
func (m *mortal) whileKilled(f func() error) error {
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

// held is the value of a key; nil means that it does not exist.
type held map[string]*string

func (m *mortal) readState(ctx context.Context) (held, error) {
	all := held{}
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

// change applies a change, during which the server may be killed. effect applies the
// change to the expected contents.
func (m *mortal) change(ctx context.Context, f func() error, effect func(held)) error {
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
	want := held{}
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
	for _, h := range []held{before, want, now} {
		for k := range h {
			keys[k] = struct{}{}
		}
	}
	for k := range keys {
		switch {
		case equalValues(now[k], want[k]):
		case !equalValues(now[k], before[k]):
			return fmt.Errorf("after a kill, key %q has %s: it had %s before, and should have %s", k, quoteValue(now[k]), quoteValue(before[k]), quoteValue(want[k]))
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

func (h held) append(entries []partd.Entry) {
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

func (m *mortal) Append(ctx context.Context, entries ...partd.Entry) error {
	return m.change(ctx, func() error { return m.Client.Append(ctx, entries...) }, func(h held) { h.append(entries) })
}

func (m *mortal) Set(ctx context.Context, key string, value []byte) error {
	return m.change(ctx, func() error { return m.Client.Set(ctx, key, value) }, func(h held) { v := string(value); h[key] = &v })
}

func (m *mortal) SetOnce(ctx context.Context, key string, value []byte) error {
	return m.change(ctx, func() error { return m.Client.SetOnce(ctx, key, value) }, func(h held) {
		if v := string(value); h[key] == nil {
			h[key] = &v
		}
	})
}

func (m *mortal) Delete(ctx context.Context, keys ...string) error {
	return m.change(ctx, func() error { return m.Client.Delete(ctx, keys...) }, func(h held) {
		for _, k := range keys {
			delete(h, k)
		}
	})
}

func (m *mortal) Drop(ctx context.Context) error {
	return m.change(ctx, func() error { return m.Client.Drop(ctx) }, func(h held) { clear(h) })
}

func (m *mortal) Flush(ctx context.Context) error {
	return m.change(ctx, func() error { return m.Client.Flush(ctx) }, func(held) {})
}

func (m *mortal) Sync(ctx context.Context) error {
	return m.change(ctx, func() error { return m.Client.Sync(ctx) }, func(held) {})
}

func (m *mortal) Get(ctx context.Context, keys ...string) (values [][]byte, err error) {
	err = m.change(ctx, func() error {
		values, err = m.Client.Get(ctx, keys...)
		return err
	}, func(held) {})
	return values, err
}

// Pop kills the server first, because a restart always leaves a pop's outcome unknown.
func (m *mortal) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := m.change(ctx, func() error { return nil }, func(held) {}); err != nil {
		return nil, err
	}
	return m.Client.Pop(ctx, keys...)
}

func (m *mortal) Close() error {
	err := m.Client.Close()
	m.process.Kill()
	return err
}

// The state machine of partdtest runs on a client whose server is killed at every third step.
func TestMachineWithKills(t *testing.T) {
	runs := max(3, number(t, "PARTD_KILLS", 0)/10)
	for _, scheme := range []string{"buffer+file:", "log:", "file:"} {
		t.Run(scheme, func(t *testing.T) {
			kills := 0
			partdtest.StateMachine(t, func(t *testing.T) partd.Partd { return newMortal(t, scheme, &kills) }, &partdtest.Options{MachineRuns: runs})
			t.Logf("%d kills", kills)
			if kills < runs {
				t.Errorf("in %d runs the server was killed %d times", runs, kills)
			}
		})
	}
}
