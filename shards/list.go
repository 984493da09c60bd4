package shards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/nostore"
)

// listKey is the key of the list in each store. The callers' own keys that begin so,
// and go on with NUL bytes alone, get one more of these: no key is taken from them.
const (
	listKey  = "partd-shards"
	listHead = "partd shards 1\n"
)

// inner returns the name of a caller's key in the store beneath; listAll takes it back.
func inner(key string) string {
	if likeListKey(key) {
		return key + "\x00"
	}
	return key
}

func likeListKey(key string) bool {
	rest, ok := strings.CutPrefix(key, listKey)
	return ok && strings.Trim(rest, "\x00") == ""
}

// ErrOtherList is wrapped by the error for any operation on stores that belong to
// another list of shards, or that have keys but no list.
var ErrOtherList = errors.New("the store belongs to another list of shards")

// other is the error for a store that has another list than its shard's. One that is
// another shard, by a second name of its server, would be read twice.
func (s *Shards) other(sh *shard, found string) error {
	of := func(list string) string {
		if rest, ok := strings.CutPrefix(list, listHead); ok {
			own, names, _ := strings.Cut(rest, "\n")
			names, _, _ = strings.Cut(names, "\n"+idWord)
			return own + " of " + strings.ReplaceAll(strings.TrimSuffix(names, "\n"), "\n", ", ")
		}
		return fmt.Sprintf("of another version: %q", list[:min(len(list), 100)])
	}
	return fmt.Errorf("%w: that is %s, but %s was given: name the same shards, each of them once, or take other stores (dropping one by itself frees it)",
		ErrOtherList, of(found), of(sh.list))
}

// need is what an operation needs of a shard before it begins.
type need int

const (
	loose  need = iota // that it is open; a store that cannot do it has nothing to do
	strict             // that it is open
	read               // that its store has no other list
	change             // that it has ours
)

// enter sees to it that a shard is as an operation needs it.
func (s *Shards) enter(ctx context.Context, sh *shard, n need) error {
	ready := func() bool { return sh.listed() || n <= strict && sh.store.Load() != nil }
	if ready() {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(canceled.Because(partd.ErrClosed)) })()
	failed := sh.failed.Load()
	if err := canceled.Send(ctx, sh.turn, struct{}{}); err != nil {
		return err
	}
	defer func() { <-sh.turn }()
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	if ready() {
		return nil
	}
	if now := sh.failed.Load(); now != failed { // who waited for that does not wait once more
		return *now
	}
	err := s.meet(ctx, sh, n)
	if err != nil && n != change && ctx.Err() == nil {
		sh.failed.Store(&err)
	}
	return err
}

// meet is enter for who has the turn.
func (s *Shards) meet(ctx context.Context, sh *shard, n need) error {
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
	for again := false; ; again = true {
		found, err := listOf(ctx, *store)
		if err != nil {
			return err
		}
		id, ok := sh.identify(found)
		if found != "" && !ok {
			return s.other(sh, found)
		}
		sh.said.Store(&known{id, instance})
		err = s.recognize(ctx, sh, id)
		if errors.Is(err, ErrOtherStore) && found == "" && time.Now().Before(end) && ctx.Err() == nil {
			time.Sleep(dropWait / 8) // it may come back
			continue
		}
		if errors.Is(err, ErrOtherStore) && !again { // it may have got its identifier meanwhile
			continue
		}
		if err == nil && found == "" {
			found, err = look(ctx, *store)
		}
		if err == nil && found == "" && n == change {
			found, err = sign(ctx, *store, sh.signature())
		}
		if err == nil && found != "" {
			err = s.note(sh, found, instance)
		}
		return err
	}
}

// begin writes the list into the stores that have none, once it has seen that all shards are
// there, by these names, and that none has another list or keys of its own. All clients go by
// one order, so that of two lists that have shards in common one is refused, and one is not.
func (s *Shards) begin(ctx context.Context) error {
	errs := together(s.shards, func(_ int, sh *shard) error { return s.enter(ctx, sh, read) })
	err := joined(s.shards, errs, strict)
	for i := 0; i < len(s.shards) && err == nil; i++ {
		err = joined(s.shards[i:i+1], []error{s.enter(ctx, s.shards[i], change)}, strict)
	}
	if err == nil {
		err = s.share(ctx)
	}
	if err != nil && !errors.Is(err, ErrOtherList) {
		return fmt.Errorf("writing the list of shards, which needs all of them once: %w", err)
	}
	return err
}

// look returns the list that a store has, "" for none. A store that has keys, and none,
// was filled by itself: they would be looked for elsewhere, and not be found.
func look(ctx context.Context, store partd.Partd) (string, error) {
	found, err := listOf(ctx, store)
	if err != nil || found != "" {
		return found, err
	}
	for info, err := range partd.Keys(ctx, store) {
		if errors.Is(err, errors.ErrUnsupported) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if found, err = listOf(ctx, store); err != nil || found != "" { // somebody has begun meanwhile
			return found, err
		}
		return "", fmt.Errorf("%w: it has keys, such as %s, and no list: they were stored without the other shards, "+
			"and would not be found: take another store, or drop this one by itself", ErrOtherList, partd.QuoteKey(info.Key))
	}
	return "", nil
}

// sign writes the list into a store that has none, and returns the one that it has then.
func sign(ctx context.Context, store partd.Partd, list string) (string, error) {
	if err := partd.SetOnce(ctx, store, listKey, []byte(list)); err != nil {
		return "", err
	}
	found, err := listOf(ctx, store)
	if err == nil && found == "" {
		err = errors.New("its list of shards disappeared as soon as it was written: is another program dropping everything?")
	}
	return found, err
}

func listOf(ctx context.Context, store partd.Partd) (string, error) {
	values, err := store.Get(ctx, listKey)
	if err != nil {
		return "", fmt.Errorf("reading the list of shards: %w", err)
	}
	return string(values[0]), nil
}

// Has reports whether a store that was opened on its own has the list of these shards,
// as each of their stores has.
func (s *Shards) Has(ctx context.Context, store partd.Partd) (bool, error) {
	list, err := listOf(ctx, nostore.Or(store))
	return slices.ContainsFunc(s.shards, func(sh *shard) bool { _, ok := sh.identify(list); return ok }), err
}
