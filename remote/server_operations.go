package remote

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// service describes how the server performs an operation of the Go client's protocol.
type service struct {
	// anyOf is a set of rights, of which the user must have at least one. Only hello needs none.
	anyOf Rights
	cost  cost
	// anySession allows requests that name a session that is not open on the connection.
	anySession bool
	// prepare decodes the request and returns the function that answers it. Requests are
	// prepared in order of arrival.
	prepare func(c *conn, r request, d *decoder) (answerFunc, error)
}

// cost estimates how long an answer takes. It decides which goroutine builds the answer.
type cost uint8

const (
	// immediate answers are built by the connection's goroutine.
	immediate cost = iota
	// concurrent answers are built by one of a few other goroutines.
	concurrent
	// inTurn answers are concurrent, but so expensive for the store that each peer may run only
	// maxSlowOps of them at a time.
	inTurn
)

// services lists the services, by operation.
var services = [lastOperation + 1]service{
	opAppend:      {RightAppend, immediate, false, (*conn).change},
	opSetOnce:     {RightAppend, immediate, false, (*conn).change},
	opSet:         {RightChange, immediate, false, (*conn).change},
	opDelete:      {RightChange, immediate, false, (*conn).change},
	opDrop:        {RightChange, immediate, false, (*conn).change},
	opHello:       {0, immediate, true, (*conn).hello},
	opPing:        {AllRights, immediate, true, (*conn).ping},
	opSession:     {RightAppend | RightChange, immediate, true, (*conn).beginSession},
	opEndSession:  {RightAppend | RightChange, immediate, true, (*conn).endSession},
	opKeepHandle:  {RightRead, immediate, true, (*conn).keepHandle},
	opPopDone:     {RightChange, immediate, false, (*conn).popDone},
	opPop:         {RightChange, concurrent, false, (*conn).pop},
	opPopRead:     {RightChange, concurrent, false, (*conn).popRead},
	opGet:         {RightRead, concurrent, false, (*conn).get},
	opOpen:        {RightRead, concurrent, false, (*conn).open},
	opRead:        {RightRead, concurrent, false, (*conn).readHandle},
	opNext:        {RightRead, concurrent, false, (*conn).readHandle},
	opCloseHandle: {RightRead, concurrent, false, (*conn).closeHandle},
	opKeys:        {RightRead, concurrent, false, withoutBody((*conn).openKeys)},
	opScan:        {RightRead, concurrent, false, (*conn).scan},
	opVerify:      {RightRead, concurrent, false, withoutBody((*conn).verify)},
	opNamespaces:  {RightAdmin, inTurn, false, (*conn).namespaces},
	opStat:        {RightRead, inTurn, false, (*conn).stat},
	opFlush:       {RightAppend | RightChange, inTurn, false, withoutBody(func(c *conn, _ *answerBuilder) error { return partd.Flush(c.ctx, c.space.store) })},
	opSync:        {RightAppend | RightChange, inTurn, false, withoutBody(func(c *conn, _ *answerBuilder) error { return partd.Sync(c.changeCtx, c.space.store) })},
}

// service returns the service for an operation. For an unknown operation, it returns a service
// whose prepare function fails.
func (op operation) service() service {
	if op <= lastOperation && services[op].anyOf != 0 || op == opHello {
		return services[op]
	}
	return service{anyOf: AllRights, prepare: func(*conn, request, *decoder) (answerFunc, error) {
		return nil, fmt.Errorf("%w: unknown operation %s", ErrBadRequest, op)
	}}
}

// withoutBody returns the prepare function for an operation whose request has no body.
func withoutBody(f func(c *conn, a *answerBuilder) error) func(*conn, request, *decoder) (answerFunc, error) {
	return func(c *conn, _ request, _ *decoder) (answerFunc, error) {
		return func(a *answerBuilder) error { return f(c, a) }, nil
	}
}

func (c *conn) ping(_ request, d *decoder) (answerFunc, error) {
	body := d.remaining()
	return func(a *answerBuilder) error { a.appendData(body); return nil }, nil
}

func (c *conn) readHandle(_ request, d *decoder) (answerFunc, error) {
	id, pageNumber := d.u64(), d.u64()
	return func(a *answerBuilder) error { return c.handles.read(a, id, pageNumber) }, nil
}

func (c *conn) keepHandle(_ request, d *decoder) (answerFunc, error) {
	id := d.u64()
	return func(*answerBuilder) error { c.handles.resetIdleTimer(id); return nil }, nil
}

func (c *conn) closeHandle(_ request, d *decoder) (answerFunc, error) {
	id := d.u64()
	return func(*answerBuilder) error { c.handles.remove(id); return nil }, nil
}

// hello authenticates the client and tells it the server's limits. If the request names a session
// with the right token, the connection may use the session. A wrong token is not an error here.
func (c *conn) hello(_ request, d *decoder) (answerFunc, error) {
	// Check the versions first, because they determine the layout of the other fields.
	if lowest, highest := d.u16(), d.u16(); d.err == nil && (lowest > protocolVersion || highest < protocolVersion) {
		version, side := lowest, "server"
		if highest < protocolVersion {
			version, side = highest, "client"
		}
		return nil, fmt.Errorf("%w: the client speaks version %d of the protocol, but the server version %d: upgrade the %s",
			ErrBadRequest, version, protocolVersion, side)
	}
	pageSize, session, token := d.u32(), d.u64(), d.token()
	namespace, credential := d.text(), d.text()
	return func(a *answerBuilder) error {
		if err := c.authenticate(namespace, credential); err != nil {
			return err
		}
		s := c.server
		c.pageSize = int(min(max(pageSize, minPage), defaultPage, max(uint32(s.opts.Memory/16), minPage)))
		if err := c.useSession(session, token); err != nil && !errors.Is(err, partd.ErrSessionExpired) {
			return err
		}
		a.u32(protocolVersion)
		a.u32(abilities(c.space.store))
		a.u64(s.instance)
		a.u64(uint64(s.opts.messageLimit()))
		a.u32(uint32(c.pageSize))
		a.u32(maxHandles)
		return nil
	}, nil
}

func (c *conn) useSession(session uint64, token partd.SessionToken) error {
	err := c.space.sessions.authorize(c.ctx, &c.sessions, c.user.User, session, token)
	if err != nil {
		return err
	}
	c.space.pops.register(session)
	return nil
}

// abilities returns a set of bits, one for each optional interface that the store implements. A
// store that wraps another one implements all these interfaces, although some of its methods may
// fail because the wrapped store lacks the ability.
func abilities(store partd.Partd) (bits uint32) {
	for i, supported := range []bool{
		implements[partd.Setter](store), implements[partd.Deleter](store), implements[partd.Lister](store), implements[partd.Opener](store), implements[partd.Scanner](store),
		implements[partd.Popper](store), implements[partd.Flusher](store), implements[partd.Syncer](store), implements[partd.Statter](store), implements[partd.Applier](store),
		implements[partd.PartScanner](store),
	} {
		if supported {
			bits |= 1 << i
		}
	}
	return bits
}

func implements[Ability any](store partd.Partd) bool {
	_, ok := store.(Ability)
	return ok
}

// beginSession creates a session or, if the request names an existing session, lets the connection
// use that session.
func (c *conn) beginSession(_ request, d *decoder) (answerFunc, error) {
	id, token := d.u64(), d.token()
	return func(a *answerBuilder) error {
		if id != 0 {
			return c.useSession(id, token)
		}
		if err := c.tenant.turns.acquire(c.ctx); err != nil {
			return err
		}
		ks, token, err := c.space.sessions.issue(c.changeCtx, &c.sessions, c.user.User)
		c.tenant.turns.release()
		if err != nil {
			return err
		}
		c.space.pops.begin(ks.id)
		a.u64(ks.id)
		a.bool(c.space.sessions.currentKeeper() != &c.space.sessions.memory)
		a.buf = append(a.buf, token[:]...)
		return nil
	}, nil
}

func (c *conn) endSession(r request, _ *decoder) (answerFunc, error) {
	return func(*answerBuilder) error { return c.space.sessions.end(c.changeCtx, &c.sessions, r.session) }, nil
}
