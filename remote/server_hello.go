package remote

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// hello tells the client what there is, and learns how it wants its answers, and
// with which session it goes on. A session whose token is wrong is one that there
// is not: what is asked of it is answered so.
func (c *conn) hello(_ request, d *decoder) (fill, error) {
	// What follows the versions is another thing in each.
	if lowest, highest := d.u16(), d.u16(); d.err == nil && (lowest > protocolVersion || highest < protocolVersion) {
		return nil, fmt.Errorf("%w: the client speaks versions %d to %d of the protocol, the server %d: both sides need the same partd",
			ErrBadRequest, lowest, highest, protocolVersion)
	}
	page, session, token := d.u32(), d.u64(), d.token()
	namespace, credential := d.text(), d.text()
	return func(a *answer) error {
		if err := c.authenticate(namespace, credential); err != nil {
			return err
		}
		s := c.server
		c.page = int(min(max(page, minPage), defaultPage, max(uint32(s.opts.Memory/16), minPage)))
		if err := c.enter(session, token); err != nil && !errors.Is(err, partd.ErrSessionExpired) {
			return err
		}
		a.u32(protocolVersion)
		a.u32(abilities(c.space.store))
		a.u64(s.instance)
		a.u64(uint64(s.opts.MaxMessage))
		a.u32(uint32(c.page))
		a.u32(maxHandles)
		return nil
	}, nil
}

// enter goes on with a session whose token is shown.
func (c *conn) enter(session uint64, token partd.SessionToken) error {
	err := c.space.sessions.enter(c.ctx, c, session, token)
	if err == nil {
		c.space.pops.enter(session)
	}
	return err
}

// abilities returns a bit for each that a store has, from the lowest on: a layer has
// all the methods, and its answers say what the store beneath cannot do.
func abilities(store partd.Partd) (bits uint32) {
	for i, has := range []bool{
		implements[partd.Setter](store), implements[partd.Deleter](store), implements[partd.Lister](store), implements[partd.Opener](store), implements[partd.Scanner](store),
		implements[partd.Popper](store), implements[partd.Flusher](store), implements[partd.Syncer](store), implements[partd.Statter](store), implements[partd.Applier](store),
		implements[partd.PartScanner](store),
	} {
		if has {
			bits |= 1 << i
		}
	}
	return bits
}

func implements[Ability any](store partd.Partd) bool {
	_, has := store.(Ability)
	return has
}

// beginSession issues a session, or goes on with one whose token is shown.
func (c *conn) beginSession(_ request, d *decoder) (fill, error) {
	id, token := d.u64(), d.token()
	return func(a *answer) error {
		if id != 0 {
			return c.enter(id, token)
		}
		if err := c.tenant.turns.acquire(c.ctx); err != nil {
			return err
		}
		x, token, err := c.space.sessions.issue(c.server.base, c)
		c.tenant.turns.release()
		if err != nil {
			return err
		}
		c.space.pops.begin(x.id)
		a.u64(x.id)
		a.bool(!x.mine)
		a.buf = append(a.buf, token[:]...)
		return nil
	}, nil
}

func (c *conn) endSession(r request, _ *decoder) (fill, error) {
	return func(*answer) error { return c.space.sessions.end(c.server.base, c, r.session) }, nil
}
