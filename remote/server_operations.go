package remote

import (
	"fmt"

	"github.com/go-partd/partd"
)

// service is how the server answers an operation of the Go client's protocol.
type service struct {
	// needs are the rights of which its user must have one; none are needed to say
	// hello alone.
	needs Rights
	cost  cost
	// anySession also serves a session that is not open on the connection.
	anySession bool
	// prepare reads what the request says, in the order in which requests come,
	// and returns what answers it.
	prepare func(c *conn, r request, d *decoder) (fill, error)
}

// fill makes the body of an answer. Unless it is made at once, it keeps nothing of
// the request's body.
type fill func(a *answer) error

// cost is how long an answer may take, which decides where it is made.
type cost uint8

const (
	// atOnce is made by the connection's goroutine.
	atOnce cost = iota
	// beside is made in a few goroutines beside that one.
	beside
	// inTurn is made there, too, and makes the store work hard: a peer has few of
	// them at a time.
	inTurn
)

// services are the operations. Those that change the store, [conn.mutate] applies.
var services = [lastOperation + 1]service{
	opAppend:      {needs: RightAppend},
	opSetOnce:     {needs: RightAppend},
	opSet:         {needs: RightChange},
	opDelete:      {needs: RightChange},
	opDrop:        {needs: RightChange},
	opHello:       {0, atOnce, true, (*conn).hello},
	opPing:        {AllRights, atOnce, true, (*conn).ping},
	opSession:     {RightAppend | RightChange, atOnce, true, (*conn).beginSession},
	opEndSession:  {RightAppend | RightChange, atOnce, true, (*conn).endSession},
	opKeepHandle:  {RightRead, atOnce, true, (*conn).keepHandle},
	opPart:        {RightAppend | RightChange, atOnce, false, (*conn).part},
	opPopDone:     {RightChange, atOnce, false, (*conn).popDone},
	opPop:         {RightChange, beside, false, (*conn).pop},
	opPopRead:     {RightChange, beside, false, (*conn).popRead},
	opGet:         {RightRead, beside, false, (*conn).get},
	opOpen:        {RightRead, beside, false, (*conn).open},
	opRead:        {RightRead, beside, false, (*conn).readHandle},
	opNext:        {RightRead, beside, false, (*conn).readHandle},
	opCloseHandle: {RightRead, beside, false, (*conn).closeHandle},
	opKeys:        {RightRead, beside, false, withoutBody((*conn).openKeys)},
	opScan:        {RightRead, beside, false, (*conn).scan},
	opVerify:      {RightRead, beside, false, withoutBody((*conn).verify)},
	opNamespaces:  {RightAdmin, inTurn, false, (*conn).namespaces},
	opStat:        {RightRead, inTurn, false, (*conn).stat},
	opFlush:       {RightAppend | RightChange, inTurn, false, withoutBody(func(c *conn, _ *answer) error { return partd.Flush(c.ctx, c.space.store) })},
	opSync:        {RightAppend | RightChange, inTurn, false, withoutBody(func(c *conn, _ *answer) error { return partd.Sync(c.ctx, c.space.store) })},
}

// service returns the service of an operation, or one that says that there is none.
func (op operation) service() service {
	if op <= lastOperation && services[op].needs != 0 || op == opHello {
		return services[op]
	}
	return service{needs: AllRights, prepare: func(*conn, request, *decoder) (fill, error) {
		return nil, fmt.Errorf("%w: there is no %s", ErrBadRequest, op)
	}}
}

func withoutBody(f func(c *conn, a *answer) error) func(*conn, request, *decoder) (fill, error) {
	return func(c *conn, _ request, _ *decoder) (fill, error) {
		return func(a *answer) error { return f(c, a) }, nil
	}
}

func (c *conn) ping(_ request, d *decoder) (fill, error) {
	body := d.rest()
	return func(a *answer) error { a.refer(body); return nil }, nil
}

func (c *conn) part(_ request, d *decoder) (fill, error) {
	id, total, offset, data := d.u64(), d.u64(), d.u64(), d.rest()
	return func(*answer) error { return c.upload.add(c, id, total, offset, data) }, nil
}

func (c *conn) get(_ request, d *decoder) (fill, error) {
	keys := d.keys()
	return func(a *answer) error { return c.getValues(a, keys) }, nil
}

func (c *conn) open(_ request, d *decoder) (fill, error) {
	key := d.key()
	return func(a *answer) error { return c.openReader(a, key) }, nil
}

func (c *conn) readHandle(_ request, d *decoder) (fill, error) {
	id, step := d.u64(), d.u64()
	return func(a *answer) error { return c.handles.read(a, id, step) }, nil
}

func (c *conn) keepHandle(_ request, d *decoder) (fill, error) {
	id := d.u64()
	return func(*answer) error { c.handles.keep(id); return nil }, nil
}

func (c *conn) closeHandle(_ request, d *decoder) (fill, error) {
	id := d.u64()
	return func(*answer) error { c.handles.remove(id); return nil }, nil
}

func (c *conn) scan(_ request, d *decoder) (fill, error) {
	part, parts := int(d.u32()), int(d.u32())
	if err := partd.CheckPart(part, parts); d.err == nil && err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return func(a *answer) error { return c.openScan(a, part, parts) }, nil
}
