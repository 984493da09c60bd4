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
	"github.com/go-partd/partd/storekit"
)

// ErrStoreMismatch is wrapped by the error for a shard whose server was started with an empty or a
// different store. The other shards have recorded the identifier of the expected store.
var ErrStoreMismatch = errors.New("this is not the store that the other shards expect")

// identity is the decoded value of the list key in a shard's store: a shard list, followed by lines
// that each contain an identifier and the name of a shard. One line names the shard itself. If several do,
// the first line counts, so that concurrent clients agree. If several lines name another shard, the
// last line counts, so that the other shard's identifier can be replaced.
type identity struct {
	text     string            // the encoded value
	ownID    string            // identifier of this shard's store
	otherIDs map[string]string // identifiers of the other shards' stores, by the shards' names
}

const idPrefix = "id "

// parseList parses the value of the list key in the shard's store. ok reports whether the value is
// valid, begins with the list that the store must contain, and contains the store's own identifier.
func (sh *shard) parseList(text string) (id identity, ok bool) {
	idLines, ok := strings.CutPrefix(text, sh.list)
	id = identity{text: text, otherIDs: map[string]string{}}
	for line := range strings.Lines(idLines) {
		value, name, complete := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, idPrefix), "\n"), " ")
		if !complete || !strings.HasPrefix(line, idPrefix) || !strings.HasSuffix(line, "\n") {
			return id, false
		}
		if name != sh.name {
			id.otherIDs[name] = value
		} else if id.ownID == "" {
			id.ownID = value
		}
	}
	return id, ok && id.ownID != ""
}

func idLine(id, name string) string { return idPrefix + id + " " + name + "\n" }

// signature returns the value to write to a store without a list: the list and a new identifier.
func (sh *shard) signature() string { return sh.list + idLine(rand.Text(), sh.name) }

// seenIdentity is an identity that was read from a shard's store, and the server instance that returned it.
type seenIdentity struct {
	identity
	instance uint64
}

// instance returns a number that changes when the shard's server restarts, perhaps with another
// store.
func (sh *shard) instance() uint64 {
	if store := sh.store.Load(); store != nil {
		if s, ok := (*store).(interface{ Instance() uint64 }); ok {
			return s.Instance()
		}
	}
	return 0
}

// seenInstance returns the server instance whose store was last recognized as the right store. If
// no store was recognized, seenInstance returns the current instance.
func (sh *shard) seenInstance() uint64 {
	if k := sh.current.Load(); k != nil {
		return k.instance
	}
	return sh.instance()
}

// isListed reports whether the shard's store is known to contain our list and the identifier that
// the other shards have recorded.
func (sh *shard) isListed() bool {
	k := sh.current.Load()
	return k != nil && k.instance == sh.instance()
}

const (
	askTimeout = 5 * time.Second // maximum time for asking the other shards about a shard
	dropWait   = time.Second     // maximum time to wait until another client's Drop writes the list again
)

var errUnreachable = errors.New("it cannot be reached") // printed after the shard's name

// recognize returns an error if id, the identity of sh's store, differs from the identity that the
// other shards have recorded for sh. Another shard may itself have the wrong store, so the majority
// decides. Unreachable shards do not count.
func (s *Shards) recognize(ctx context.Context, sh *shard, id identity) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	wasKnown := sh.current.Load() != nil // if so, the identities in memory may be outdated
	identities := make([]*identity, len(s.shards))
	errs := concurrently(s.shards, func(i int, other *shard) error {
		store := other.store.Load()
		if other == sh || store == nil {
			return nil
		}
		if k := other.lastIdentity.Load(); !wasKnown && k != nil && k.instance == other.instance() && id.ownID != "" && k.otherIDs[sh.name] == id.ownID {
			identities[i] = &k.identity
			return nil
		}
		instance := other.instance()
		text, err := readList(ctx, *store)
		if err != nil {
			return err
		}
		stored, ok := other.parseList(text)
		if text != "" && !ok {
			return s.listMismatch(other, text)
		}
		identities[i] = &stored
		other.lastIdentity.Store(&seenIdentity{stored, instance})
		return nil
	})
	var unreachable []error
	var disagreeing []string
	agreeing, listedCount := 0, 0
	for i, other := range s.shards {
		otherIdentity := identities[i]
		switch {
		case other == sh:
			continue
		case otherIdentity == nil:
			unreachable = append(unreachable, &Error{other.name, cmp.Or(errs[i], errUnreachable)})
			continue
		case otherIdentity.text != "":
			listedCount++
		}
		switch otherIdentity.otherIDs[sh.name] {
		case "":
		case id.ownID:
			agreeing++
		default:
			disagreeing = append(disagreeing, other.name)
		}
	}
	if id.ownID != "" {
		agreeing++
	}
	switch {
	case len(disagreeing) > 0 && len(disagreeing) >= agreeing:
		problem := "has another identifier"
		if id.text == "" {
			problem = "is empty"
		}
		return fmt.Errorf("%w: it %s, and %s shared keys with it: restart its server with its own store; if that store is lost, "+
			`empty it and run "partd adopt", which accepts the empty store`, ErrStoreMismatch, problem, strings.Join(disagreeing, ", "))
	case id.text == "" && listedCount == 0 && len(unreachable) > 0:
		return fmt.Errorf("it has no shard list, and the shards that know whether it should have one cannot be reached: %w", errors.Join(unreachable...))
	}
	return nil
}

// exchangeIDs writes the other shards' identifiers to the stores that lack them because they are new
// or because a client was killed. All shards must have been recognized.
func (s *Shards) exchangeIDs(ctx context.Context) error {
	ids := map[string]string{}
	for _, sh := range s.shards {
		ids[sh.name] = sh.current.Load().ownID
	}
	for _, sh := range s.shards {
		var lines strings.Builder
		for _, other := range s.shards {
			if other != sh && sh.current.Load().otherIDs[other.name] != ids[other.name] {
				lines.WriteString(idLine(ids[other.name], other.name))
			}
		}
		if err := s.addLines(ctx, sh, lines.String()); err != nil {
			return &Error{sh.name, err}
		}
	}
	s.idsExchanged.Store(true)
	return nil
}

// addLines appends lines to the list key of a shard's store and then records the new identity.
func (s *Shards) addLines(ctx context.Context, sh *shard, lines string) error {
	if lines == "" {
		return nil
	}
	store := *sh.store.Load()
	if err := store.Append(ctx, partd.Entry{Key: listKey, Value: []byte(lines)}); err != nil {
		return fmt.Errorf("writing the identifiers of shards: %w", err)
	}
	text, err := readList(ctx, store)
	if err != nil {
		return err
	}
	return s.recordIdentity(sh, text, sh.current.Load().instance)
}

// recordIdentity sets sh.current to the identity that text contains. It returns an error if text
// does not contain our list.
func (s *Shards) recordIdentity(sh *shard, text string, instance uint64) error {
	id, ok := sh.parseList(text)
	if !ok {
		return s.listMismatch(sh, text)
	}
	sh.current.Store(&seenIdentity{id, instance})
	return nil
}

// Adopt makes the other shards accept an empty store as the new store of the shard called name, for
// example after a disk failed. The other shards keep their keys; the keys of the old store are
// lost. All shards must be reachable; open opens them by name. After an error, call Adopt again.
func Adopt(ctx context.Context, names []string, open func(ctx context.Context, name string) (partd.Partd, error), name string) (err error) {
	s, err := newLazyShards(names, open)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.shards, func(sh *shard) bool { return sh.name == name })
	if i < 0 {
		return fmt.Errorf("shards: %s is not one of %s", name, strings.Join(names, ", "))
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	errs := concurrently(s.shards, func(_ int, sh *shard) error { return s.ensure(ctx, sh, strict) })
	if err := joinErrors(s.shards, errs, strict); err != nil {
		return errorf("adopt", err)
	}
	return errorf("adopt", s.adopt(ctx, s.shards[i]))
}

func (s *Shards) adopt(ctx context.Context, sh *shard) error {
	var sharing []*shard // shards whose stores contain our list
	for _, other := range s.shards {
		text, err := readList(ctx, *other.store.Load())
		if err == nil && text != "" {
			sharing = append(sharing, other)
			err = s.recordIdentity(other, text, other.instance())
		}
		if err != nil {
			return &Error{other.name, err}
		}
	}
	if len(sharing) == 0 {
		return errors.New("no shard has a shard list: all stores are empty, so there is nothing to adopt")
	}
	for info, err := range partd.Keys(ctx, *sh.store.Load()) {
		if err == nil && info.Key != listKey {
			err = fmt.Errorf("it has keys, such as %s: start its server with an empty store, or drop the keys of this store", storekit.QuoteKey(info.Key))
		}
		if err != nil {
			return &Error{sh.name, err}
		}
	}
	text, err := writeList(ctx, *sh.store.Load(), sh.signature())
	if err == nil {
		err = s.recordIdentity(sh, text, sh.instance())
	}
	if err != nil {
		return &Error{sh.name, err}
	}
	ownID := sh.current.Load().ownID
	for _, other := range sharing {
		if other == sh || other.current.Load().otherIDs[sh.name] == ownID {
			continue
		}
		if err := s.addLines(ctx, other, idLine(ownID, sh.name)); err != nil {
			return &Error{other.name, err}
		}
	}
	if !slices.ContainsFunc(s.shards, func(sh *shard) bool { return sh.current.Load() == nil }) {
		return s.exchangeIDs(ctx)
	}
	return nil // another shard has an empty store and must also be adopted
}
