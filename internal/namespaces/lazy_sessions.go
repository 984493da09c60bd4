package namespaces

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// A session makes the namespace: a client begins one before its first change.

func (l *lazy) NewSession(ctx context.Context) (session uint64, err error) {
	failed := able(ctx, l, true, func(a partd.Applier) { session, err = a.NewSession(ctx) })
	return session, l.renewed(cmp.Or(failed, err))
}

func (l *lazy) EndSession(ctx context.Context, session uint64) (err error) {
	failed := able(ctx, l, false, func(a partd.Applier) { err = a.EndSession(ctx, session) })
	return l.renewed(cmp.Or(failed, err))
}

// Apply finds no session where there is no store.
func (l *lazy) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	err = expired(tag.Session)
	failed := able(ctx, l, false, func(a partd.Applier) { applied, err = a.Apply(ctx, tag, op) })
	return applied, l.renewed(cmp.Or(failed, err))
}

func (l *lazy) SessionToken(ctx context.Context, session uint64) (token partd.SessionToken, err error) {
	err = expired(session)
	failed := able(ctx, l, false, func(g partd.SessionGuard) { token, err = g.SessionToken(ctx, session) })
	return token, cmp.Or(failed, err)
}

func (l *lazy) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) (err error) {
	err = expired(session)
	failed := able(ctx, l, false, func(g partd.SessionGuard) { err = g.CheckSession(ctx, session, token) })
	return cmp.Or(failed, err)
}

func expired(session uint64) error {
	return fmt.Errorf("session %d: %w", session, partd.ErrSessionExpired)
}

// able is with for a store that must have an ability.
func able[Ability any](ctx context.Context, l *lazy, create bool, f func(Ability)) error {
	return l.with(ctx, create, func(s partd.Partd) error {
		a, ok := s.(Ability)
		if !ok {
			return fmt.Errorf("sessions: %w", errors.ErrUnsupported)
		}
		f(a)
		return nil
	})
}
