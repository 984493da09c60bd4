package shards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/layer"
	"github.com/go-partd/partd/storekit"
)

// listKey is the key of the shard list in each store. If a caller's key is listKey, or listKey
// followed by NUL bytes, the key is stored with one more NUL byte, so that callers can use every
// key.
const (
	listKey    = "partd-shards"
	listHeader = "partd shards 1\n"
)

// storedKey converts a caller's key to the key in the store; listAll converts it back.
func storedKey(key string) string {
	if resemblesListKey(key) {
		return key + "\x00"
	}
	return key
}

func resemblesListKey(key string) bool {
	suffix, ok := strings.CutPrefix(key, listKey)
	return ok && strings.Trim(suffix, "\x00") == ""
}

// ErrListMismatch is wrapped by the error for any operation on stores that contain another
// shard list, or that contain keys but no list.
var ErrListMismatch = errors.New("the store belongs to another shard list")

// listMismatch returns the error for shard sh whose store contains another list. For example, a
// server with two host names must not be used as two shards, because its keys would be read twice.
func (s *Shards) listMismatch(sh *shard, list string) error {
	if rest, ok := strings.CutPrefix(list, sh.list); ok && (rest == "" || strings.HasPrefix(rest, idPrefix)) {
		return fmt.Errorf("%w: its list is damaged, because it has no valid identifier of this store: use another store, or open this one without the other shards and drop its keys", ErrListMismatch)
	}
	parse := func(list string) string {
		if body, ok := strings.CutPrefix(list, listHeader); ok {
			own, names, _ := strings.Cut(body, "\n")
			names, _, _ = strings.Cut(names, "\n"+idPrefix)
			return own + " of " + strings.ReplaceAll(strings.TrimSuffix(names, "\n"), "\n", ", ")
		}
		return fmt.Sprintf("of another version: %q", list[:min(len(list), 100)])
	}
	return fmt.Errorf("%w: it was used as shard %s, but was now opened as shard %s: name the same shards as before, "+
		"each once, or use another store; to reuse this store, open it without the other shards and drop its keys",
		ErrListMismatch, parse(list), parse(sh.list))
}

// need is the state of a shard that an operation requires. Each need includes the earlier ones.
type need int

const (
	lenient  need = iota // the shard is open; ErrUnsupported is ignored unless all shards return it
	strict               // the shard is open
	readable             // the shard's store has this client's shard list, or no list and, as far as known, no keys
	writable             // the shard's store has this client's shard list
)

// ensure brings sh into the state n. If another call failed while this one waited for sh.openLock, ensure returns that
// error instead of trying again, unless the other call had n == writable or its ctx had ended.
func (s *Shards) ensure(ctx context.Context, sh *shard, n need) error {
	ready := func() bool { return sh.isListed() || n <= strict && sh.store.Load() != nil }
	if ready() {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(canceled.Failure(partd.ErrClosed)) })() // until ensure returns, Close cancels ctx
	oldErr := sh.lastErr.Load()
	if err := canceled.Send(ctx, sh.openLock, struct{}{}); err != nil {
		return err
	}
	defer func() { <-sh.openLock }()
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	if ready() {
		return nil
	}
	if lastErr := sh.lastErr.Load(); lastErr != oldErr { // another call failed while this one waited for openLock
		return *lastErr
	}
	err := s.openAndRecognize(ctx, sh, n)
	if err != nil && n != writable && ctx.Err() == nil {
		sh.lastErr.Store(&err)
	}
	return err
}

// openAndRecognize opens a shard and, if n calls for it, also verifies that the shard has the
// right store. sh.openLock must be held.
func (s *Shards) openAndRecognize(ctx context.Context, sh *shard, n need) error {
	store := sh.store.Load()
	if store == nil {
		opened, err := sh.open(ctx)
		if err != nil {
			return err
		}
		store = &opened
		sh.store.Store(store)
	}
	if n <= strict {
		return nil
	}
	instance := sh.instance()
	end := time.Now().Add(dropWait)
	for isRetry := false; ; isRetry = true {
		list, err := readList(ctx, *store)
		if err != nil {
			return err
		}
		id, ok := sh.parseList(list)
		if list != "" && !ok {
			return s.listMismatch(sh, list)
		}
		sh.lastIdentity.Store(&seenIdentity{id, instance})
		err = s.recognize(ctx, sh, id)
		if errors.Is(err, ErrStoreMismatch) && list == "" && time.Now().Before(end) && ctx.Err() == nil {
			time.Sleep(dropWait / 8) // another client's Drop may have removed the list and may soon write it again
			continue
		}
		if errors.Is(err, ErrStoreMismatch) && !isRetry { // another client may have added the identifier after the list was read
			continue
		}
		if err == nil && list == "" {
			list, err = findList(ctx, *store)
		}
		if err == nil && list == "" && n == writable {
			list, err = writeList(ctx, *store, sh.signature())
		}
		if err == nil && list != "" {
			err = s.recordIdentity(sh, list, instance)
		}
		return err
	}
}

// writeLists checks all shards and then writes the shard list to the stores without one. All clients
// write to the shards in the same order. So if two clients have different but overlapping lists, only
// one client succeeds.
func (s *Shards) writeLists(ctx context.Context) error {
	errs := concurrently(s.shards, func(_ int, sh *shard) error { return s.ensure(ctx, sh, readable) })
	err := joinErrors(s.shards, errs, strict)
	for i := 0; i < len(s.shards) && err == nil; i++ {
		err = joinErrors(s.shards[i:i+1], []error{s.ensure(ctx, s.shards[i], writable)}, strict)
	}
	if err == nil {
		err = s.exchangeIDs(ctx)
	}
	if err != nil && !errors.Is(err, ErrListMismatch) {
		return fmt.Errorf("writing the shard list for the first time, which requires all shards: %w", err)
	}
	return err
}

// findList returns the list of a store, or "" if the store is empty. If the store has keys but no
// list, findList returns an error: the keys were stored without the other shards and might belong to
// another shard.
func findList(ctx context.Context, store partd.Partd) (string, error) {
	list, err := readList(ctx, store)
	if err != nil || list != "" {
		return list, err
	}
	for info, err := range partd.Keys(ctx, store) {
		if errors.Is(err, errors.ErrUnsupported) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		list, err = readList(ctx, store)
		if err != nil || list != "" { // another client has written the list since
			return list, err
		}
		return "", fmt.Errorf("%w: it has keys, such as %s, and no list: they were stored without the other shards, "+
			"and would not be found: use another store, or drop the keys of this one", ErrListMismatch, storekit.QuoteKey(info.Key))
	}
	return "", nil
}

// writeList writes the list to a store unless the store has one. It returns the store's list.
func writeList(ctx context.Context, store partd.Partd, list string) (string, error) {
	if err := partd.SetOnce(ctx, store, listKey, []byte(list)); err != nil {
		return "", err
	}
	current, err := readList(ctx, store)
	if err == nil && current == "" {
		err = errors.New("its shard list disappeared immediately after it was written: is another program dropping all keys?")
	}
	return current, err
}

func readList(ctx context.Context, store partd.Partd) (string, error) {
	values, err := store.Get(ctx, listKey)
	if err != nil {
		return "", fmt.Errorf("reading the shard list: %w", err)
	}
	return string(values[0]), nil
}

// Has reads the shard list of a separately opened store and reports whether the store belongs to
// these shards.
func (s *Shards) Has(ctx context.Context, store partd.Partd) (bool, error) {
	list, err := readList(ctx, layer.StoreOrFailing(store))
	return slices.ContainsFunc(s.shards, func(sh *shard) bool { _, ok := sh.parseList(list); return ok }), err
}
