package remote

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
)

// switched is a SpaceLimit that can be switched on.
type switched struct {
	full     atomic.Bool
	underWay atomic.Int64
	taken    atomic.Int64
}

func (r *switched) Admit(entries int, bytes int64) (int64, error) {
	if r.full.Load() {
		return 0, syscall.EDQUOT
	}
	r.underWay.Add(bytes)
	r.taken.Add(bytes)
	return bytes, nil
}

func (r *switched) Done(taken int64) { r.underWay.Add(-taken) }

// TestSpaceLimit checks that only changes that need space are refused. A resent change
// whose answer was lost is still answered as applied. Otherwise its client would repeat
// it later.
func TestSpaceLimit(t *testing.T) {
	ctx := context.Background()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			store, room := open(t), &switched{}
			s, url := serve(t, store, &ServerOptions{SpaceLimit: room})
			c := dial(t, url, nil)
			must(t, errors.Join(c.Append(ctx, entry("k", "1"), entry("p", "2")), c.Set(ctx, "s", []byte("3"))))
			id, err := c.NewSession(ctx)
			must(t, err)
			op := func(value string) partd.Operation { return partd.Operation{Entries: []partd.Entry{entry("k", value)}} }
			_, err = c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op("4"))
			must(t, err)
			if n := room.taken.Load(); n != 8 || room.underWay.Load() != 0 {
				t.Errorf("%d bytes were admitted, %d are in progress", n, room.underWay.Load())
			}
			room.full.Store(true)
			refused := func(label string, err error) {
				t.Helper()
				if !errors.Is(err, syscall.EDQUOT) || errors.Is(err, partd.ErrUnknownOutcome) {
					t.Errorf("%s: %v", label, err)
				}
			}
			refused("append", c.Append(ctx, entry("k", "5")))
			refused("set", c.Set(ctx, "s", []byte("5")))
			refused("set once", c.SetOnce(ctx, "new", []byte("5")))
			fresh := dial(t, url, nil)
			refused("append of a new session", fresh.Append(ctx, entry("k", "5")))
			_, err = c.Apply(ctx, partd.Tag{Session: id, Number: 2}, op("5"))
			refused("the next operation", err)
			if applied, err := c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op("4")); applied || err != nil {
				t.Errorf("a resent applied change: %v, %v", applied, err)
			}
			if v, err := c.Pop(ctx, "p"); err != nil || string(v[0]) != "2" {
				t.Errorf("pop: %q, %v", v, err)
			}
			must(t, c.Delete(ctx, "s"))
			v, err := c.Get(ctx, "k", "s", "new", "p")
			if must(t, err); string(v[0]) != "14" || len(v[1])+len(v[2])+len(v[3]) > 0 {
				t.Errorf("the store has %q", v)
			}
			room.full.Store(false)
			must(t, errors.Join(fresh.Append(ctx, entry("k", "6")), c.Append(ctx, entry("k", "7"))))
			_, err = c.Apply(ctx, partd.Tag{Session: id, Number: 2}, op("8"))
			must(t, err)
			if v, err = c.Get(ctx, "k"); err != nil || string(v[0]) != "14678" {
				t.Errorf("once there is space the store has %q, %v", v, err)
			}
			room.full.Store(true)
			must(t, c.Drop(ctx))
			if n := s.meters.storeErrors.Load(); n != 0 {
				t.Errorf("without space, %d requests count as errors of the store", n)
			}
		})
	}
}

// TestSpaceLimitAfterRestart resends a change that was applied but not answered to a
// restarted server without space.
func TestSpaceLimitAfterRestart(t *testing.T) {
	ctx, store := context.Background(), partd.NewDict()
	_, url := serve(t, store, nil)
	p := newProxy(t, url, noLimit)
	c := dial(t, p.url(), nil)
	op := partd.Operation{Entries: []partd.Entry{entry("k", "1")}}
	id, err := c.NewSession(ctx)
	must(t, err)
	_, err = c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op)
	must(t, err)
	room := &switched{}
	room.full.Store(true)
	_, next := serve(t, store, &ServerOptions{SpaceLimit: room})
	p.target.Store(&next)
	p.cut()
	if applied, err := c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op); applied || err != nil {
		t.Errorf("an applied change, resent to the next server: %v, %v", applied, err)
	}
	if _, err := c.Apply(ctx, partd.Tag{Session: id, Number: 2}, op); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("the next operation: %v", err)
	}
}
