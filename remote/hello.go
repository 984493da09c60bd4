package remote

import (
	"fmt"

	"github.com/go-partd/partd"
)

// hello tells the client what there is, and learns how it wants its answers.
func (c *conn) hello(r request, body []byte) error {
	d := &decoder{b: body}
	lowest, highest, page, session := d.u16(), d.u16(), d.u32(), d.u64()
	if err := d.end(); err != nil {
		return c.fail(r, fmt.Errorf("%w: hello: %w", ErrBadRequest, err))
	}
	if lowest > protocolVersion || highest < protocolVersion {
		return c.fail(r, fmt.Errorf("%w: the client speaks versions %d to %d, the server %d", ErrBadRequest, lowest, highest, protocolVersion))
	}
	c.page = int(min(max(page, minPage), defaultPage, max(uint32(c.server.opts.Memory/16), minPage)))
	c.server.pops.enter(session)
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

// beginSession issues a session.
func (c *conn) beginSession(r request) error {
	return c.answerWith(r, func(a *answer) error {
		id, kept, err := c.server.sessions.issue(c.server.base)
		if err != nil {
			return err
		}
		c.server.pops.begin(id)
		a.u64(id)
		if kept {
			a.u8(1)
		} else {
			a.u8(0)
		}
		return nil
	})
}
