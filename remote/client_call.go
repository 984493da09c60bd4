package remote

import (
	"fmt"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// call is a request and its result.
type call struct {
	request
	builder

	isNumbered     bool  // the call is a change, numbered within the session
	isPop          bool  // the call is a pop, numbered separately from changes
	instanceOffset int   // offset of the server process's number in a pop's body
	boundLink      *link // the only connection that may carry the call; nil means any

	// writeMu is held while the body is being written. Lock it before exchange.mu.
	writeMu sync.Mutex

	// exchange.mu guards the fields below until done is closed.
	sendCount    int   // number of connections over which the call was sent
	link         *link // the last connection over which the call was sent
	abandoned    bool  // the caller no longer waits
	finished     bool
	done         chan struct{}
	err          error
	mustRenumber bool // the change was not applied and must get a new number
	replyFlags   uint8
	reply        []byte // body of the reply, owned by the caller
}

func newCall(op operation) *call {
	return &call{request: request{op: op}, builder: newBuilder(), done: make(chan struct{})}
}

// newSessionRequest returns a request to use a session or, if session is 0, to create one.
func newSessionRequest(session uint64, token partd.SessionToken) *call {
	req := newCall(opSession)
	req.u64(session)
	req.buf = append(req.buf, token[:]...)
	return req
}

func (req *call) parts() [][]byte {
	var head [headerSpace]byte
	return req.frame(req.request.append(zmtp.AppendHeader(head[:0], requestLen+req.size(), false)))
}

// lostError returns the error for a call that was sent but will not be answered because of cause.
func (req *call) lostError(cause error) error {
	if req.isNumbered || req.isPop || req.op.isChange() {
		return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, cause)
	}
	return cause
}

// callTable numbers calls and holds those waiting for answers. It is guarded by exchange.mu.
type callTable struct {
	unanswered    map[uint64]*call // by number
	lastNumber    uint64           // number of the last call
	ops           opSequence
	confirmedPops []partd.Tag // pops to confirm to the server, which then deletes their results
}

// register gives a call its number.
func (t *callTable) register(req *call) {
	t.lastNumber++
	req.number = t.lastNumber
	t.unanswered[req.number] = req
}

// complete ends a call with err, which may be nil.
func (t *callTable) complete(req *call, err error) {
	if req.finished {
		return
	}
	delete(t.unanswered, req.number)
	req.finished, req.err = true, err
	close(req.done)
}

// settle ends a call that the server has answered or that cannot be resent.
func (t *callTable) settle(req *call, err error) {
	if req.isNumbered {
		err = t.ops.handleReply(req, err)
	}
	t.complete(req, err)
}

// failAll ends the session and fails all calls with err.
func (t *callTable) failAll(err error) {
	for _, req := range t.unanswered {
		t.complete(req, req.lostError(err))
	}
	t.ops.renew()
}

// failBound fails the calls that only the broken connection l could carry.
func (t *callTable) failBound(l *link, err error) {
	for _, req := range t.unanswered {
		switch {
		case req.boundLink != l:
		case req.op.isChange():
			t.complete(req, fmt.Errorf("%w: the connection broke: %w", partd.ErrUnknownOutcome, err))
		default:
			t.complete(req, fmt.Errorf("%w (the connection broke: %w)", ErrLost, err))
		}
	}
}

// loseSession ends a session that the new server process does not know, and the calls that need it.
func (t *callTable) loseSession() {
	for _, req := range t.unanswered {
		if req.isNumbered {
			t.complete(req, fmt.Errorf("%w: the server was restarted, and its store does not remember what it applied", partd.ErrUnknownOutcome))
		}
	}
	t.ops.renew()
}
