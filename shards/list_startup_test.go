package shards

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

// TestWaitersShareAttempt checks that concurrent callers share attempts to open an unreachable shard.
func TestWaitersShareAttempt(t *testing.T) {
	refused := error(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")})
	const readers = 20
	var opened atomic.Int64
	attempts := make(chan struct{}, readers+1)
	s := must.Get(Open(t.Context(), abc[:2], func(_ context.Context, name string) (partd.Partd, error) {
		if name == "a" {
			return partd.NewDict(), nil
		}
		if opened.Add(1) > 1 {
			attempts <- struct{}{}
			time.Sleep(100 * time.Millisecond)
		}
		return nil, refused
	}))(t)
	errs := make(chan error, readers)
	for range readers {
		go func() { _, err := s.Get(t.Context(), keyOf(s, "b")); errs <- err }()
	}
	for range readers {
		must.Fail(t, <-errs, refused, "Get of a key of an unreachable shard")
	}
	if n := len(attempts); n == readers {
		t.Errorf("%d readers made %d attempts to open the shard, want fewer", readers, n)
	}
	must.Do(t, s.Close())
}

// TestCloseWhileOpening checks that Close cancels the opening of a shard.
func TestCloseWhileOpening(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	reopened, opening := false, make(chan struct{})
	s := must.Get(Open(t.Context(), abc[:2], func(ctx context.Context, name string) (partd.Partd, error) {
		if name == "a" {
			return partd.NewDict(), nil
		}
		if !reopened {
			reopened = true
			return nil, refused
		}
		close(opening)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}))(t)
	done := make(chan error)
	go func() { _, err := s.Get(context.Background(), keyOf(s, "b")); done <- err }()
	<-opening
	must.Do(t, s.Close())
	must.Fail(t, <-done, partd.ErrClosed, "Get during Close")
}

// TestConcurrentFirstChanges checks that if several clients concurrently make the first changes of new stores, they
// agree on the stores' identifiers, and no change is lost.
func TestConcurrentFirstChanges(t *testing.T) {
	t.Parallel()
	for round := range 20 {
		stores := dicts(3)
		errs := make(chan error, 8)
		for i := range 8 {
			names := slices.Clone(abc)
			rand.Shuffle(3, func(i, j int) { names[i], names[j] = names[j], names[i] })
			opened := make([]partd.Partd, 3)
			for j, name := range names {
				opened[j] = stores[slices.Index(abc, name)]
			}
			go func() {
				s, err := New(names, opened)
				for j := 0; j < 20 && err == nil; j++ {
					err = s.Append(context.Background(), partd.Entry{Key: fmt.Sprint(j), Value: []byte{byte(i)}})
				}
				errs <- err
			}()
		}
		for range 8 {
			must.Do(t, <-errs)
		}
		s := shardsOver(t, abc, stores)
		stats, err := s.Stat(t.Context())
		if err != nil || stats.Keys != 20 || stats.Bytes != 160 {
			t.Fatalf("round %d: Stat = %+v, %v, want 20 keys with 160 bytes", round, stats, err)
		}
		for _, sh := range s.shards {
			for _, other := range s.shards {
				if id, recorded := sh.current.Load().ownID, other.current.Load().otherIDs[sh.name]; other != sh && id != recorded {
					t.Errorf("round %d: the identifier of %s is %q, but %s has recorded %q", round, sh.name, id, other.name, recorded)
				}
			}
		}
	}
}

// TestInterruptedFirstChange checks that clients write the missing shard lists if another client died after it had
// written only some of them.
func TestInterruptedFirstChange(t *testing.T) {
	for done := range 3 {
		stores := dicts(3)
		s := shardsOver(t, abc, stores)
		for _, sh := range s.shards[:done] {
			must.Do(t, s.ensure(t.Context(), sh, writable))
		}
		want := fill(t, shardsOver(t, abc, stores), 50)
		if got, err := scan(s, 0, 1); err != nil || !maps.Equal(got, want) {
			t.Errorf("after %d lists were written: scan = %d keys, %v, want %d keys", done, len(got), err, len(want))
		}
	}
}

// cancelingStore is a store whose Drop cancels the caller's context.
type cancelingStore struct {
	*partd.Dict
	cancel context.CancelFunc
}

func (d *cancelingStore) Drop(ctx context.Context) error {
	d.cancel()
	return errors.Join(d.Dict.Drop(context.WithoutCancel(ctx)), ctx.Err())
}

// TestDropCancelled checks that every store still has its shard list after a Drop whose context
// ended. A store with keys but no list would be unusable.
func TestDropCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stores := []partd.Partd{&cancelingStore{partd.NewDict(), cancel}, &cancelingStore{partd.NewDict(), cancel}}
	s, other := shardsOver(t, abc[:2], stores), shardsOver(t, abc[:2], stores)
	fill(t, s, 10)
	fill(t, other, 10)
	must.Fail(t, s.Drop(ctx), context.Canceled, "Drop")
	fill(t, other, 10)
	if got, err := scan(shardsOver(t, abc[:2], stores), 0, 1); err != nil || len(got) != 10 {
		t.Errorf("scan after Drop and an append = %d keys, %v, want 10", len(got), err)
	}
}

// TestOverlappingListsStartTogether checks that if two clients with different but overlapping shard lists make the
// first change of new stores concurrently, exactly one succeeds.
func TestOverlappingListsStartTogether(t *testing.T) {
	for round := range 200 {
		stores := dicts(3)
		other := [][]int{{0, 1}, {1, 2}, {0, 2}}[round%3]
		var names []string
		var opened []partd.Partd
		for _, i := range other {
			names, opened = append(names, abc[i]), append(opened, stores[i])
		}
		clients := []*Shards{shardsOver(t, abc, stores), shardsOver(t, names, opened)}
		errs := concurrently([]*shard{nil, nil}, func(i int, _ *shard) error {
			return clients[i].Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
		})
		if firstWon, secondWon := errs[0] == nil, errs[1] == nil; firstWon == secondWon || !errors.Is(errors.Join(errs...), ErrListMismatch) {
			t.Fatalf("round %d: Append by both clients = %v, want one nil and one ErrListMismatch", round, errs)
		}
		for i, err := range errs {
			if err == nil {
				fill(t, clients[i], 50)
			}
		}
	}
}

// racingStore is a store that another client fills after the first Get, which reads the shard list.
type racingStore struct {
	*partd.Dict
	otherClient func()
}

func (b *racingStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	values, err := b.Dict.Get(ctx, keys...)
	if other := b.otherClient; other != nil {
		b.otherClient = nil
		other()
	}
	return values, err
}

// TestListWrittenDuringFirstChange checks that keys that another client adds after this client has
// read the list are not mistaken for keys without a list.
func TestListWrittenDuringFirstChange(t *testing.T) {
	d := partd.NewDict()
	b := &racingStore{d, func() { fill(t, shardsOver(t, abc[:1], []partd.Partd{d}), 10) }}
	fill(t, shardsOver(t, abc[:1], []partd.Partd{b}), 10)
	if stats, err := shardsOver(t, abc[:1], []partd.Partd{d}).Stat(t.Context()); err != nil || stats.Keys != 10 || stats.Bytes != 140 {
		t.Errorf("Stat = %+v, %v, want 10 keys with 140 bytes", stats, err)
	}
}

// TestPermanentFailure checks that Open fails with an error that is not about the network. A bare
// syscall.Errno implements net.Error, but is not a network error.
func TestPermanentFailure(t *testing.T) {
	dir := t.TempDir()
	must.Do(t, os.WriteFile(filepath.Join(dir, "b"), nil, 0o600))
	_, err := Open(t.Context(), []string{"a", "b"}, func(_ context.Context, name string) (partd.Partd, error) {
		return logstore.Open(filepath.Join(dir, name, "store"), nil)
	})
	must.Fail(t, err, syscall.ENOTDIR, "Open")
	s, err := Open(t.Context(), []string{"a", "b"}, func(_ context.Context, name string) (partd.Partd, error) {
		if name == "b" {
			_, err := net.Dial("unix", filepath.Join(dir, "socket"))
			return nil, err
		}
		return partd.NewDict(), nil
	})
	if err != nil {
		t.Fatal("Open with a server that is down:", err)
	}
	must.Do(t, s.Close())
}

// relistedStore is a store to which another client writes a list right after each Drop.
type relistedStore struct {
	*restartableStore
	sh *shard
}

func (r *relistedStore) Drop(ctx context.Context) error {
	if err := r.restartableStore.Drop(ctx); err != nil {
		return err
	}
	return partd.SetOnce(ctx, r.restartableStore, listKey, []byte(r.sh.signature()))
}

// TestListWrittenAfterDrop checks that the other shards record the new identifier if another client
// writes a list after a Drop, before the dropping client does.
func TestListWrittenAfterDrop(t *testing.T) {
	servers, stores := restartable(3)
	stores[1] = &relistedStore{servers[1], shardsOver(t, abc, stores).shards[1]}
	s := shardsOver(t, abc, stores)
	fill(t, s, 30)
	for range 3 {
		must.Do(t, s.Drop(t.Context()))
		want := fill(t, openShards(t, stores), 30)
		if got, err := scan(shardsOver(t, abc, stores), 0, 1); err != nil || !maps.Equal(got, want) {
			t.Fatalf("scan = %d keys, %v, want %d", len(got), err, len(want))
		}
	}
}
