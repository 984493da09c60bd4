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

// ErrStoreMismatch is wrapped by the error for a shard whose store differs from what the other
// shards have recorded. The store is empty or a different one, because the server was started with
// the wrong directory or disk.
var ErrStoreMismatch = errors.New("this is not the store that the other shards know")

// identity is the identifiers in a store after its list: lines of an identifier and a shard's name.
// The first line with the store's own name is its identifier, so that clients that create one at
// the same time agree. The last line with another name is that shard's identifier, so that it can
// be replaced.
type identity struct {
	text   string
	own    string
	others map[string]string
}

const idWord = "id "

// parseList parses the value of the list key in a shard's store. It reports whether the list is that
// of these shards.
func (sh *shard) parseList(text string) (id identity, ok bool) {
	rest, ok := strings.CutPrefix(text, sh.list)
	id = identity{text: text, others: map[string]string{}}
	for line := range strings.Lines(rest) {
		value, name, complete := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, idWord), "\n"), " ")
		if !complete || !strings.HasPrefix(line, idWord) || !strings.HasSuffix(line, "\n") {
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

// signature returns a list with a new identifier, for a store that has no list.
func (sh *shard) signature() string { return sh.list + idLine(rand.Text(), sh.name) }

// known is the identity of a shard's store, and the instance of its server that had it.
type known struct {
	identity
	instance uint64
}

// instance returns a number that changes when a shard's server restarts, maybe with another store.
func (sh *shard) instance() uint64 {
	if store := sh.store.Load(); store != nil {
		if s, ok := (*store).(interface{ Instance() uint64 }); ok {
			return s.Instance()
		}
	}
	return 0
}

// seenInstance returns the server instance of the shard's last check.
func (sh *shard) seenInstance() uint64 {
	if k := sh.known.Load(); k != nil {
		return k.instance
	}
	return sh.instance()
}

// isListed reports whether the shard's store is known to have our list and the identifier that the
// other shards know.
func (sh *shard) isListed() bool {
	k := sh.known.Load()
	return k != nil && k.instance == sh.instance()
}

// askTimeout limits the time for asking the other shards about one. dropWait is how long a list may
// be missing while another client drops everything.
const (
	askTimeout = 5 * time.Second
	dropWait   = time.Second
)

var errAway = errors.New("it cannot be reached")

// recognize returns an error if a shard's store has another identity, id, than the other
// shards have recorded. Unreachable shards do not count; operations on their keys fail anyway. A shard that
// disagrees may itself have the wrong store, so more than half must agree.
func (s *Shards) recognize(ctx context.Context, sh *shard, id identity) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	before := sh.known.Load() != nil // the others may have learned another identifier since
	identities := make([]*identity, len(s.shards))
	errs := concurrently(s.shards, func(i int, other *shard) error {
		store := other.store.Load()
		if other == sh || store == nil {
			return nil
		}
		if k := other.lastSeen.Load(); !before && k != nil && k.instance == other.instance() && id.own != "" && k.others[sh.name] == id.own {
			identities[i] = &k.identity
			return nil
		}
		instance := other.instance()
		text, err := listOf(ctx, *store)
		if err != nil {
			return err
		}
		stored, ok := other.parseList(text)
		if text != "" && !ok {
			return s.listMismatch(other, text)
		}
		identities[i] = &stored
		other.lastSeen.Store(&known{stored, instance})
		return nil
	})
	var away []error
	var against []string
	agree, lists := 0, 0
	for i, other := range s.shards {
		otherIdentity := identities[i]
		switch {
		case other == sh:
			continue
		case otherIdentity == nil:
			away = append(away, &Error{other.name, cmp.Or(errs[i], errAway)})
			continue
		case otherIdentity.text != "":
			lists++
		}
		switch otherIdentity.others[sh.name] {
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
		problem := "has another identifier"
		if id.text == "" {
			problem = "is empty"
		}
		return fmt.Errorf("%w: it %s, and %s had keys with it: restart its server with its own store; if that store is lost, "+
			`empty it and run "partd adopt", which accepts the empty store`, ErrStoreMismatch, problem, strings.Join(against, ", "))
	case id.text == "" && lists == 0 && len(away) > 0:
		return fmt.Errorf("it has no list of shards, and the shards that could tell whether it should have one cannot be reached: %w", errors.Join(away...))
	}
	return nil
}

// exchangeIDs writes the identifiers of all shards into all stores. They may be missing from
// stores of earlier versions, and if a client was killed before it wrote them. All shards must be known.
func (s *Shards) exchangeIDs(ctx context.Context) error {
	ids := map[string]string{}
	for _, sh := range s.shards {
		k := sh.known.Load()
		if k.own == "" {
			if err := s.addLines(ctx, sh, idLine(rand.Text(), sh.name)); err != nil {
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
		if err := s.addLines(ctx, sh, lines.String()); err != nil {
			return &Error{sh.name, err}
		}
	}
	s.shared.Store(true)
	return nil
}

// addLines appends lines to the list in a shard's store, and reads the list again.
func (s *Shards) addLines(ctx context.Context, sh *shard, lines string) error {
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
	return s.record(sh, text, sh.known.Load().instance)
}

// record records the identity in a shard's store, if the store has our list.
func (s *Shards) record(sh *shard, text string, instance uint64) error {
	id, ok := sh.parseList(text)
	if !ok {
		return s.listMismatch(sh, text)
	}
	sh.known.Store(&known{id, instance})
	return nil
}

// Adopt makes the other shards accept the empty store of one shard in place of the store that they
// know, for example after a disk was lost. The other shards keep their keys; the lost store's keys
// are gone. All shards must be reachable; open opens them by name. Adopt may be repeated.
func Adopt(ctx context.Context, names []string, open func(ctx context.Context, name string) (partd.Partd, error), name string) (err error) {
	s, err := newOpening(names, open)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.shards, func(sh *shard) bool { return sh.name == name })
	if i < 0 {
		return fmt.Errorf("shards: %s is not one of %s", name, strings.Join(names, ", "))
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	errs := concurrently(s.shards, func(_ int, sh *shard) error { return s.enter(ctx, sh, strict) })
	if err := joinErrors(s.shards, errs, strict); err != nil {
		return errorf("adopt", err)
	}
	return errorf("adopt", s.adopt(ctx, s.shards[i]))
}

func (s *Shards) adopt(ctx context.Context, sh *shard) error {
	var sharing []*shard // shards that have our list
	for _, other := range s.shards {
		text, err := listOf(ctx, *other.store.Load())
		if err == nil && text != "" {
			sharing = append(sharing, other)
			err = s.record(other, text, other.instance())
		}
		if err != nil {
			return &Error{other.name, err}
		}
	}
	if len(sharing) == 0 {
		return errors.New("no shard has a list of shards: all are empty, so there is nothing to adopt")
	}
	for info, err := range partd.Keys(ctx, *sh.store.Load()) {
		if err == nil && info.Key != listKey {
			err = fmt.Errorf("it has keys, such as %s: start its server with an empty store, or drop the keys of this store", partd.QuoteKey(info.Key))
		}
		if err != nil {
			return &Error{sh.name, err}
		}
	}
	text, err := writeList(ctx, *sh.store.Load(), sh.signature())
	if err == nil {
		err = s.record(sh, text, sh.instance())
	}
	if err != nil {
		return &Error{sh.name, err}
	}
	own := sh.known.Load().own
	for _, other := range sharing {
		if other == sh || other.known.Load().others[sh.name] == own {
			continue
		}
		if err := s.addLines(ctx, other, idLine(own, sh.name)); err != nil {
			return &Error{other.name, err}
		}
	}
	if !slices.ContainsFunc(s.shards, func(sh *shard) bool { return sh.known.Load() == nil }) {
		return s.exchangeIDs(ctx)
	}
	return nil // another shard must be adopted too
}
