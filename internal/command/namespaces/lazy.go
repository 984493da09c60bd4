package namespaces

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/storekit"
)

// lazy is a namespace's store, which is opened when an operation needs it. A store that does not exist reads as empty,
// and the first change creates it. If the namespace has expired, its entries are gone, so reads fail until that change.
type lazy struct {
	set  *Set
	name string
}

// withStore opens the store and calls f with it. If the store does not exist and create is false,
// withStore does nothing.
func (l *lazy) withStore(ctx context.Context, create bool, f func(partd.Partd) error) error {
	store, release, err := l.set.acquireStore(ctx, l.name, storeUse{create: create})
	if err != nil || store == nil {
		return err
	}
	defer release()
	return f(store)
}

// read is like withStore, but fails if the namespace has expired. long must be true if f reads the whole store, which
// can take longer than one operation.
func (l *lazy) read(ctx context.Context, long bool, f func(partd.Partd) error) error {
	store, release, err := l.set.acquireStore(ctx, l.name, storeUse{long: long})
	if err != nil {
		return err
	}
	defer release()
	if store == nil {
		return l.set.expiredError(l.name)
	}
	return f(store)
}

// closeIfBroken returns err. If err says that the store must be reopened, closeIfBroken closes the
// store, so that the next operation reopens it. If the store is in use, it stays open until the
// next change that fails.
func (l *lazy) closeIfBroken(err error) error {
	if errors.Is(err, partd.ErrNeedsReopen) {
		l.set.mu.Lock()
		defer l.set.mu.Unlock()
		if e := l.set.entries[l.name]; e != nil && e.store != nil && e.leases == 0 {
			l.set.close(context.Background(), e)
		}
	}
	return err
}

func (l *lazy) Append(ctx context.Context, entries ...partd.Entry) error {
	return l.closeIfBroken(l.withStore(ctx, true, func(s partd.Partd) error { return s.Append(ctx, entries...) }))
}

func (l *lazy) Set(ctx context.Context, key string, value []byte) error {
	return l.closeIfBroken(l.withStore(ctx, true, func(s partd.Partd) error { return partd.Set(ctx, s, key, value) }))
}

func (l *lazy) SetOnce(ctx context.Context, key string, value []byte) error {
	return l.closeIfBroken(l.withStore(ctx, true, func(s partd.Partd) error { return partd.SetOnce(ctx, s, key, value) }))
}

func (l *lazy) Delete(ctx context.Context, keys ...string) error {
	return l.closeIfBroken(l.withStore(ctx, false, func(s partd.Partd) error { return partd.Delete(ctx, s, keys...) }))
}

func (l *lazy) Drop(ctx context.Context) error {
	return l.closeIfBroken(l.withStore(ctx, false, func(s partd.Partd) error { return s.Drop(ctx) }))
}

func (l *lazy) Flush(ctx context.Context) error {
	return l.closeIfBroken(l.withStore(ctx, false, func(s partd.Partd) error { return partd.Flush(ctx, s) }))
}

func (l *lazy) Sync(ctx context.Context) error {
	return l.closeIfBroken(l.withStore(ctx, false, func(s partd.Partd) error { return partd.Sync(ctx, s) }))
}

func (l *lazy) Get(ctx context.Context, keys ...string) (values [][]byte, err error) {
	values = make([][]byte, len(keys))
	err = l.read(ctx, false, func(s partd.Partd) (err error) { values, err = s.Get(ctx, keys...); return err })
	return values, err
}

func (l *lazy) HasKey(ctx context.Context, key string) (exists bool, err error) {
	err = l.withStore(ctx, false, func(s partd.Partd) (err error) { exists, err = partd.Has(ctx, s, key); return err })
	return exists, err
}

func (l *lazy) Pop(ctx context.Context, keys ...string) (values [][]byte, err error) {
	values = make([][]byte, len(keys))
	err = l.read(ctx, false, func(s partd.Partd) (err error) { values, err = partd.Pop(ctx, s, keys...); return err })
	return values, l.closeIfBroken(err)
}

func (l *lazy) Stat(ctx context.Context) (st partd.Stats, err error) {
	err = l.withStore(ctx, false, func(s partd.Partd) (err error) { st, err = partd.Stat(ctx, s); return err })
	return st, err
}

// Open returns a reader. The store stays open until the reader is closed.
func (l *lazy) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	store, release, err := l.set.acquireStore(ctx, l.name, storeUse{long: true})
	if err != nil {
		return nil, err
	}
	if store == nil {
		return io.NopCloser(bytes.NewReader(nil)), l.set.expiredError(l.name)
	}
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		release()
		return nil, err
	}
	return &reader{r, sync.OnceFunc(release)}, nil
}

type reader struct {
	io.ReadCloser
	release func()
}

func (r *reader) Rewind() error {
	if rewinder, ok := r.ReadCloser.(storekit.Rewinder); ok {
		return rewinder.Rewind()
	}
	return fmt.Errorf("rewind: %w", errors.ErrUnsupported)
}

func (r *reader) Close() error {
	defer r.release()
	return r.ReadCloser.Close()
}

// eachItem yields the items of a listing. The store stays open during the iteration.
func eachItem[V any](ctx context.Context, l *lazy, items func(partd.Partd) iter.Seq2[V, error]) iter.Seq2[V, error] {
	return func(yield func(V, error) bool) {
		stopped := false
		err := l.read(ctx, true, func(s partd.Partd) error {
			for v, err := range items(s) {
				if !yield(v, err) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			var zero V
			yield(zero, err)
		}
	}
}

func (l *lazy) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return eachItem(ctx, l, func(s partd.Partd) iter.Seq2[partd.KeyInfo, error] { return partd.Keys(ctx, s) })
}

func (l *lazy) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return eachItem(ctx, l, func(s partd.Partd) iter.Seq2[partd.Chunk, error] { return partd.Scan(ctx, s) })
}

func (l *lazy) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return eachItem(ctx, l, func(s partd.Partd) iter.Seq2[partd.Chunk, error] { return partd.ScanPart(ctx, s, part, parts) })
}

// ReaderMemory returns the memory that an open reader and a listing use, in bytes.
func (l *lazy) ReaderMemory() (reader, listing int64) {
	return l.set.opts.ReaderMemory, l.set.opts.ListingMemory
}

func (l *lazy) Check(ctx context.Context) (checked partd.CheckResult, err error) {
	err = l.read(ctx, true, func(s partd.Partd) (err error) { checked, err = partd.Check(ctx, s); return err })
	return checked, err
}

// NewSession also creates the namespace, because a client creates a session before its first
// change.
func (l *lazy) NewSession(ctx context.Context) (session uint64, err error) {
	openErr := withAbility(ctx, l, true, func(a partd.Applier) { session, err = a.NewSession(ctx) })
	return session, l.closeIfBroken(cmp.Or(openErr, err))
}

func (l *lazy) EndSession(ctx context.Context, session uint64) (err error) {
	openErr := withAbility(ctx, l, false, func(a partd.Applier) { err = a.EndSession(ctx, session) })
	return l.closeIfBroken(cmp.Or(openErr, err))
}

// Apply returns ErrSessionExpired if the store does not exist.
func (l *lazy) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	err = sessiontab.ExpiredError(tag.Session)
	openErr := withAbility(ctx, l, false, func(a partd.Applier) { applied, err = a.Apply(ctx, tag, op) })
	return applied, l.closeIfBroken(cmp.Or(openErr, err))
}

func (l *lazy) SessionToken(ctx context.Context, session uint64) (token partd.SessionToken, err error) {
	err = sessiontab.ExpiredError(session)
	openErr := withAbility(ctx, l, false, func(g partd.SessionGuard) { token, err = g.SessionToken(ctx, session) })
	return token, cmp.Or(openErr, err)
}

func (l *lazy) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) (err error) {
	err = sessiontab.ExpiredError(session)
	openErr := withAbility(ctx, l, false, func(g partd.SessionGuard) { err = g.CheckSession(ctx, session, token) })
	return cmp.Or(openErr, err)
}

// withAbility is like withStore, but fails if the store lacks an ability.
func withAbility[Ability any](ctx context.Context, l *lazy, create bool, f func(Ability)) error {
	return l.withStore(ctx, create, func(s partd.Partd) error {
		a, ok := s.(Ability)
		if !ok {
			return fmt.Errorf("sessions: %w", errors.ErrUnsupported)
		}
		f(a)
		return nil
	})
}
