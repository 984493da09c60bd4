package remote

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// hello tells the client what there is, and learns how it wants its answers, and
// with which session it goes on. A session whose token is wrong is one that there
// is not: what is asked of it is answered so.
func (c *conn) hello(r request, body []byte) error {
	d := &decoder{b: body}
	// What follows the versions is another thing in each.
	if lowest, highest := d.u16(), d.u16(); d.err == nil && (lowest > protocolVersion || highest < protocolVersion) {
		return c.fail(r, fmt.Errorf("%w: the client speaks versions %d to %d of the protocol, the server %d: both sides need the same partd",
			ErrBadRequest, lowest, highest, protocolVersion))
	}
	page, session, token := d.u32(), d.u64(), d.token()
	namespace, credential := d.text(), d.text()
	if err := d.end(); err != nil {
		return c.fail(r, fmt.Errorf("%w: hello: %w", ErrBadRequest, err))
	}
	if namespace != "" {
		return c.fail(r, fmt.Errorf("this server has no namespaces, and was asked for %q: %w", cut(namespace), errors.ErrUnsupported))
	}
	if credential != "" {
		return c.fail(r, fmt.Errorf("this server knows no users, and was sent a credential: %w", errors.ErrUnsupported))
	}
	c.page = int(min(max(page, minPage), defaultPage, max(uint32(c.server.opts.Memory/16), minPage)))
	if err := c.server.sessions.enter(c.ctx, c, session, token); err == nil {
		c.server.pops.enter(session)
	} else if !errors.Is(err, partd.ErrSessionExpired) {
		return c.fail(r, err)
	}
	return c.answerWith(r, func(a *answer) error {
		a.u32(protocolVersion)
		a.u32(abilities(c.server.store))
		a.u64(c.server.instance)
		a.u64(uint64(c.server.opts.MaxMessage))
		a.u32(uint32(c.page))
		a.u32(mostHandles)
		return nil
	})
}

// abilities tells what a store can do, by its methods: a layer has them all,
// and its answers say what the store beneath cannot do.
func abilities(store partd.Partd) uint32 {
	return bitIf[partd.Setter](store, canSet) |
		bitIf[partd.Deleter](store, canDelete) |
		bitIf[partd.Lister](store, canList) |
		bitIf[partd.Opener](store, canOpen) |
		bitIf[partd.Scanner](store, canScan) |
		bitIf[partd.Popper](store, canPop) |
		bitIf[partd.Flusher](store, canFlush) |
		bitIf[partd.Syncer](store, canSync) |
		bitIf[partd.Statter](store, canStat) |
		bitIf[partd.Applier](store, canApply)
}

// bitIf returns the bit of an ability if the store has its methods.
func bitIf[Ability any](store partd.Partd, bit uint32) uint32 {
	if _, can := store.(Ability); can {
		return bit
	}
	return 0
}

// beginSession issues a session, or goes on with one whose token is shown.
func (c *conn) beginSession(r request, body []byte) error {
	d := &decoder{b: body}
	id, token := d.u64(), d.token()
	if err := d.end(); err != nil {
		return c.fail(r, fmt.Errorf("%w: session: %w", ErrBadRequest, err))
	}
	if id != 0 {
		err := c.server.sessions.enter(c.ctx, c, id, token)
		if err == nil {
			c.server.pops.enter(id)
		}
		return c.result(r, err, 0)
	}
	return c.answerWith(r, func(a *answer) error {
		end, err := c.share.turn(c.ctx)
		if err != nil {
			return err
		}
		x, token, err := c.server.sessions.issue(c.server.base, c)
		end()
		if err != nil {
			return err
		}
		c.server.pops.begin(x.id)
		a.u64(x.id)
		if x.mine {
			a.u8(0)
		} else {
			a.u8(1)
		}
		a.buf = append(a.buf, token[:]...)
		return nil
	})
}
