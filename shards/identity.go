package shards

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
)

// ErrOtherStore is wrapped by the error for a shard whose store is not the one that the
// other shards know. The store is empty or a different one, because the server was
// started on the wrong directory or disk.
var ErrOtherStore = errors.New("this is not the store that the other shards know")

// identity is what a store says behind its list: lines of an identifier and a shard's name.
// The first of its own name says who it is, so clients that make one at the same time agree.
// The last of another name says who that is, so that one can be replaced.
type identity struct {
	text   string
	own    string
	others map[string]string
}

const idWord = "id "

// identify parses what a shard's store has under the key of the list, and reports whether
// that is the list of these shards.
func (sh *shard) identify(text string) (id identity, ok bool) {
	rest, ok := strings.CutPrefix(text, sh.list)
	id = identity{text: text, others: map[string]string{}}
	for line := range strings.Lines(rest) {
		value, name, whole := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, idWord), "\n"), " ")
		if !whole || !strings.HasPrefix(line, idWord) || !strings.HasSuffix(line, "\n") {
			return id, false
		}
		if name != sh.name {
			id.others[name] = value
		} else if id.own == "" {
			id.own = value
		}
	}
	return id, ok
}

func idLine(id, name string) string { return idWord + id + " " + name + "\n" }

// signature is the list of a store that has none, with an identifier of its own.
func (sh *shard) signature() string { return sh.list + idLine(rand.Text(), sh.name) }

// known is what was found in a shard's store.
type known struct {
	identity
	instance uint64
}

// instance counts the lives of a shard's server, in each of which it may have another store.
func (sh *shard) instance() uint64 {
	if store := sh.store.Load(); store != nil {
		if s, ok := (*store).(interface{ Instance() uint64 }); ok {
			return s.Instance()
		}
	}
	return 0
}

// seen is the life of a shard's server in which its store was last looked at.
func (sh *shard) seen() uint64 {
	if k := sh.known.Load(); k != nil {
		return k.instance
	}
	return sh.instance()
}

// listed reports whether it is known that the shard's store has our list, and is the one
// that the others know.
func (sh *shard) listed() bool {
	k := sh.known.Load()
	return k != nil && k.instance == sh.instance()
}

// lookTimeout is how long a shard waits for what the others say of it, and dropWait how
// long a list may be missing while somebody else drops everything.
const (
	lookTimeout = 5 * time.Second
	dropWait    = time.Second
)

var errAway = errors.New("it cannot be reached")

// recognize reports whether a shard's store, which says this of itself, is the one that the
// others know. Others that cannot be asked do not count: their keys fail by themselves.
// One that says otherwise may itself be the wrong one, so more than half has to agree.
func (s *Shards) recognize(ctx context.Context, sh *shard, id identity) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	before := sh.known.Load() != nil // the others may have got to know another one meanwhile
	found := make([]*identity, len(s.shards))
	errs := together(s.shards, func(i int, other *shard) error {
		store := other.store.Load()
		if other == sh || store == nil {
			return nil
		}
		if k := other.said.Load(); !before && k != nil && k.instance == other.instance() && id.own != "" && k.others[sh.name] == id.own {
			found[i] = &k.identity
			return nil
		}
		instance := other.instance()
		text, err := listOf(ctx, *store)
		if err != nil {
			return err
		}
		said, ok := other.identify(text)
		if text != "" && !ok {
			return s.other(other, text)
		}
		found[i] = &said
		other.said.Store(&known{said, instance})
		return nil
	})
	var away []error
	var against []string
	agree, lists := 0, 0
	for i, other := range s.shards {
		said := found[i]
		switch {
		case other == sh:
			continue
		case said == nil:
			away = append(away, &Error{other.name, cmp.Or(errs[i], errAway)})
			continue
		case said.text != "":
			lists++
		}
		switch said.others[sh.name] {
		case "":
		case id.own:
			agree++
		default:
			against = append(against, other.name)
		}
	}
	if id.own != "" {
		agree++
	}
	switch {
	case len(against) > 0 && len(against) >= agree:
		what := "has another identifier"
		if id.text == "" {
			what = "is empty"
		}
		return fmt.Errorf("%w: it %s, and %s had keys with it: start its server over its own store again; if that store is lost, "+
			`empty it and run "partd adopt", which takes it in as an empty one`, ErrOtherStore, what, strings.Join(against, ", "))
	case id.text == "" && lists == 0 && len(away) > 0:
		return fmt.Errorf("it has no list of shards, and it is not known whether it should have one: %w", errors.Join(away...))
	}
	return nil
}

// share tells all shards of each other's identifiers, which lists of earlier versions lack,
// and those of clients that were killed before they told them. All of them are known.
func (s *Shards) share(ctx context.Context) error {
	ids := map[string]string{}
	for _, sh := range s.shards {
		k := sh.known.Load()
		if k.own == "" {
			if err := s.tell(ctx, sh, idLine(rand.Text(), sh.name)); err != nil {
				return &Error{sh.name, err}
			}
			k = sh.known.Load()
		}
		ids[sh.name] = k.own
	}
	for _, sh := range s.shards {
		var lines strings.Builder
		for _, other := range s.shards {
			if other != sh && sh.known.Load().others[other.name] != ids[other.name] {
				lines.WriteString(idLine(ids[other.name], other.name))
			}
		}
		if err := s.tell(ctx, sh, lines.String()); err != nil {
			return &Error{sh.name, err}
		}
	}
	s.shared.Store(true)
	return nil
}

// tell appends lines to what a shard's store says, and reads it again.
func (s *Shards) tell(ctx context.Context, sh *shard, lines string) error {
	if lines == "" {
		return nil
	}
	store := *sh.store.Load()
	if err := store.Append(ctx, partd.Entry{Key: listKey, Value: []byte(lines)}); err != nil {
		return fmt.Errorf("writing the identifiers of shards: %w", err)
	}
	text, err := listOf(ctx, store)
	if err != nil {
		return err
	}
	return s.note(sh, text, sh.known.Load().instance)
}

// note keeps what was found in a shard's store, if it has our list.
func (s *Shards) note(sh *shard, text string, instance uint64) error {
	id, ok := sh.identify(text)
	if !ok {
		return s.other(sh, text)
	}
	sh.known.Store(&known{id, instance})
	return nil
}

// Adopt makes the others accept the empty store of one shard in place of the one that
// they know, for example after a disk was lost. The other shards keep their keys; those
// of the lost store are gone. All shards must be reachable; open opens them by name.
// Adopt may be repeated.
func Adopt(ctx context.Context, names []string, open func(ctx context.Context, name string) (partd.Partd, error), name string) (err error) {
	s, err := openedBy(names, open)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(s.shards, func(sh *shard) bool { return sh.name == name })
	if at < 0 {
		return fmt.Errorf("shards: %s is not one of %s", name, strings.Join(names, ", "))
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	errs := together(s.shards, func(_ int, sh *shard) error { return s.enter(ctx, sh, strict) })
	if err := joined(s.shards, errs, strict); err != nil {
		return errorf("adopt", err)
	}
	return errorf("adopt", s.adopt(ctx, s.shards[at]))
}

func (s *Shards) adopt(ctx context.Context, sh *shard) error {
	var with []*shard // those that have our list
	for _, other := range s.shards {
		text, err := listOf(ctx, *other.store.Load())
		if err == nil && text != "" {
			with = append(with, other)
			err = s.note(other, text, other.instance())
		}
		if err != nil {
			return &Error{other.name, err}
		}
	}
	if len(with) == 0 {
		return errors.New("no shard has a list of shards: all are empty, and there is nothing to adopt")
	}
	for info, err := range partd.Keys(ctx, *sh.store.Load()) {
		if err == nil && info.Key != listKey {
			err = fmt.Errorf("it has keys, such as %s: start its server over an empty store, or drop this one by itself", partd.QuoteKey(info.Key))
		}
		if err != nil {
			return &Error{sh.name, err}
		}
	}
	text, err := sign(ctx, *sh.store.Load(), sh.signature())
	if err == nil {
		err = s.note(sh, text, sh.instance())
	}
	if err != nil {
		return &Error{sh.name, err}
	}
	own := sh.known.Load().own
	for _, other := range with {
		if other == sh || other.known.Load().others[sh.name] == own {
			continue
		}
		if err := s.tell(ctx, other, idLine(own, sh.name)); err != nil {
			return &Error{other.name, err}
		}
	}
	if !slices.ContainsFunc(s.shards, func(sh *shard) bool { return sh.known.Load() == nil }) {
		return s.share(ctx)
	}
	return nil // another one is to be adopted, too
}
