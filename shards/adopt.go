package shards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd"
)

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
