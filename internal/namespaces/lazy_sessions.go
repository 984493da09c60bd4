package namespaces

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// A session makes the namespace: a client begins one before its first change.

func (l *lazy) NewSession(ctx context.Context) (session uint64, err error) {
	err = l.applier(ctx, true, func(a partd.Applier) (err error) { session, err = a.NewSession(ctx); return err })
	return session, l.renewed(err)
}

func (l *lazy) EndSession(ctx context.Context, session uint64) error {
	return l.renewed(l.applier(ctx, false, func(a partd.Applier) error { return a.EndSession(ctx, session) }))
}

// Apply finds no session where there is no store.
func (l *lazy) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	err = fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	failed := l.applier(ctx, false, func(a partd.Applier) error { applied, err = a.Apply(ctx, tag, op); return nil })
	if failed != nil {
		return false, failed
	}
	return applied, l.renewed(err)
}

func (l *lazy) applier(ctx context.Context, create bool, f func(partd.Applier) error) error {
	return l.with(ctx, create, func(s partd.Partd) error {
		a, ok := s.(partd.Applier)
		if !ok {
			return fmt.Errorf("sessions: %w", errors.ErrUnsupported)
		}
		return f(a)
	})
}

func (l *lazy) SessionToken(ctx context.Context, session uint64) (token partd.SessionToken, err error) {
	err = fmt.Errorf("session %d: %w", session, partd.ErrSessionExpired)
	failed := l.guard(ctx, func(g partd.SessionGuard) { token, err = g.SessionToken(ctx, session) })
	if failed != nil {
		return token, failed
	}
	return token, err
}

func (l *lazy) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) (err error) {
	err = fmt.Errorf("session %d: %w", session, partd.ErrSessionExpired)
	failed := l.guard(ctx, func(g partd.SessionGuard) { err = g.CheckSession(ctx, session, token) })
	if failed != nil {
		return failed
	}
	return err
}

func (l *lazy) guard(ctx context.Context, f func(partd.SessionGuard)) error {
	return l.with(ctx, false, func(s partd.Partd) error {
		g, ok := s.(partd.SessionGuard)
		if !ok {
			return fmt.Errorf("sessions: %w", errors.ErrUnsupported)
		}
		f(g)
		return nil
	})
}
