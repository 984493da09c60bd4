package remote

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/server/ratelimit"
)

// Rights is a set of a user's rights in a namespace.
type Rights uint8

// The rights. No right includes another.
const (
	RightRead   Rights = 1 << iota // read, list, get sizes, verify
	RightAppend                    // append and set once
	RightChange                    // set, delete, pop and drop
	RightAdmin                     // list the namespaces where the user has this right; in the default namespace, stop the server
	AllRights   = 1<<iota - 1
)

const dataRights = RightRead | RightAppend | RightChange

var rightNames = []string{"read", "append", "change", "admin"}

func (r Rights) String() string {
	var names []string
	for i, name := range rightNames {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRights parses a comma-separated list of at least one right.
func ParseRights(s string) (r Rights, err error) {
	for word := range strings.SplitSeq(s, ",") {
		i := slices.Index(rightNames, word)
		if i < 0 {
			return 0, fmt.Errorf("unknown right %q%s: write one or more of %s, separated by commas", word, textfmt.Hint(word, rightNames), strings.Join(rightNames, ", "))
		}
		r |= 1 << i
	}
	return r, nil
}

// Identity identifies an authenticated client.
type Identity struct {
	User  string // owns the client's sessions and appears in the log
	Grant string // how the [Authorizer] identifies the credential; not secret
}

// Authorizer authenticates users and returns their rights. Package remote/tokens
// implements it with a file or a map.
type Authorizer interface {
	// Authenticate identifies a client by its token or, if token is empty, by its verified
	// certificate. certificate is nil if the client has none. The error is logged and not sent to
	// the client. The running time must not depend on how much of the token is correct.
	Authenticate(token string, certificate *x509.Certificate) (Identity, error)
	// Rights returns a user's current rights in a namespace. "" is the default namespace.
	// The server calls Rights for each request.
	Rights(user Identity, namespace string) Rights
}

// ServeOptions configures [Server.ServeWith]. Nil and zero values mean the defaults.
type ServeOptions struct {
	// Namespace is the namespace for all clients of the listener. If it is empty, Go clients choose
	// a namespace, and Python's clients use the default one.
	Namespace string
	// Trusted admits clients without credentials, with every right except admin. Use it if the
	// listener itself controls who may connect, for example with a Unix socket's permissions.
	Trusted bool
}

// access holds the identity of a connection's client and the connection's namespace. Only the conn's
// goroutine changes it. Goroutines that answer requests also read user and space, which no longer
// change once those goroutines start.
type access struct {
	peer       *transport
	listener   ServeOptions
	logins     *ratelimit.Logins
	recorder   *audit.Recorder
	enterSpace func(namespace string) (*space, error)

	user           Identity
	authenticated  bool   // the credential was accepted, or the client needs none
	trusted        bool   // the client needs no credential although the server has users
	namespaceFixed bool   // the connection's namespace can no longer change
	namespace      string // "" until namespaceFixed is set
	space          *space // the default space until namespaceFixed is set
}

func (a *access) rights() Rights { return a.rightsIn(a.namespace) }

func (a *access) rightsIn(namespace string) Rights {
	users := a.peer.opts.Authorizer
	switch {
	case users == nil:
		return AllRights
	case a.authenticated && !a.trusted:
		return users.Rights(a.user, namespace)
	case a.listener.Trusted:
		return dataRights
	}
	return 0
}

// requireRights returns an error unless the connection has at least one of the required rights.
func (a *access) requireRights(required Rights, action string) error {
	if a.rights()&required != 0 {
		return nil
	}
	if action == opFlush.String() && a.rights() != 0 { // do not log: partd.Close flushes even for clients that may only read
		return errDenied
	}
	a.peer.meters.deniedRequests.Add(1)
	a.peer.opts.Logger.Warn("refused", "operation", action, "user", a.user.User, "namespace", a.namespace,
		"peer", peerName(a.peer.nc), "reason", "the user lacks the right "+required.String())
	return errDenied
}

// authenticate checks a client's credential and sets the connection's namespace, which cannot
// change afterwards.
func (a *access) authenticate(namespace, credential string) error {
	if a.listener.Namespace != "" && namespace == "" {
		namespace = a.listener.Namespace
	}
	var user Identity
	users := a.peer.opts.Authorizer
	var certificate *x509.Certificate
	if s, ok := a.peer.nc.(*tls.Conn); ok && len(s.ConnectionState().VerifiedChains) > 0 {
		certificate = s.ConnectionState().PeerCertificates[0]
	}
	trusted := users != nil && a.listener.Trusted && credential == "" && certificate == nil
	switch {
	case users == nil && credential != "":
		return fmt.Errorf("this server has no users, but the client sent a credential: %w", errors.ErrUnsupported)
	case users != nil && !trusted:
		isGuess := credential != "" || certificate == nil
		if isGuess && !a.logins.MayTry(a.peer.tenant.name, credential) {
			a.peer.meters.wrongCredentials.Add(1)
			a.peer.opts.Logger.Warn("a credential was not checked: too many wrong ones have come from this address", "peer", peerName(a.peer.nc))
			return fmt.Errorf("%w (too many wrong credentials have come from this address)", ErrBusy)
		}
		var err error
		user, err = users.Authenticate(credential, certificate)
		if err == nil && users.Rights(user, namespace) == 0 {
			err = fmt.Errorf("user %s has no rights in the namespace", user.User)
		}
		if err != nil {
			return a.rejectCredential(namespace, err)
		}
		a.logins.RecordSuccess(credential)
	}
	if a.listener.Namespace != "" && namespace != a.listener.Namespace {
		return a.rejectCredential(namespace, fmt.Errorf("the address serves only the namespace %s", a.listener.Namespace))
	}
	if namespace != "" && a.peer.opts.Namespaces == nil {
		return errNoNamespaces(namespace)
	}
	if a.namespaceFixed && (namespace != a.namespace || user != a.user) {
		return fmt.Errorf("%w: a connection cannot change its user or namespace: open another one", ErrBadRequest)
	}
	if !a.namespaceFixed { // otherwise the user is the same, and other goroutines may be reading it
		a.user = user
	}
	a.authenticated, a.trusted = true, trusted
	a.peer.reader.SetMaxMessage(a.peer.opts.messageLimit())
	return a.bind(namespace)
}

const guessPause = 250 * time.Millisecond // delay after a wrong credential

// rejectCredential logs and counts a wrong credential, pauses and returns the error for the client.
func (a *access) rejectCredential(namespace string, cause error) error {
	a.peer.meters.wrongCredentials.Add(1)
	a.logins.RecordFailure(a.peer.tenant.name)
	a.peer.opts.Logger.Warn("refused", "operation", opHello.String(), "namespace", truncate(namespace), "peer", peerName(a.peer.nc), "reason", cause)
	_ = canceled.Wait(a.peer.ctx, time.After(guessPause)) // return errDenied even if the pause is cut short
	return errDenied
}

// bindDefault binds the connection, unless its client has chosen a namespace, to the listener's
// namespace or, if the listener has none, to the default one.
func (a *access) bindDefault() error {
	if a.namespaceFixed || a.rights() == 0 {
		return nil // requireRights will refuse the request
	}
	return a.bind(a.listener.Namespace)
}

// bind sets the connection's namespace, which cannot change afterwards.
func (a *access) bind(namespace string) error {
	if a.namespaceFixed {
		return nil
	}
	p, err := a.enterSpace(namespace)
	if err != nil {
		return err
	}
	a.namespaceFixed, a.namespace, a.space = true, namespace, p
	return nil
}

// audit writes a line about a request to the audit log. The line has no keys, values or credentials.
func (a *access) audit(e audit.Entry, arrived time.Time, number uint64, err error) {
	r := a.recorder
	if r.Out == nil {
		return
	}
	e.Host, e.RequestID = peerName(a.peer.nc), fmt.Sprint(a.peer.id, "-", number)
	switch {
	case err == nil:
		e.Outcome = audit.OK
	case errors.Is(err, errDenied), errors.Is(err, errClose):
		e.Outcome = audit.Denied
	case a.peer.ctx.Err() != nil && isCancelled(err), errors.Is(err, errSuperseded):
		e.Outcome = audit.Unanswered
	default:
		e.Outcome = audit.Failed
	}
	isStranger := err != nil && e.User == "" && a.peer.opts.Authorizer != nil && !a.listener.Trusted
	isInvalid := errors.Is(err, errCommand) || errors.Is(err, errFrames) || errors.Is(err, ErrBadRequest)
	r.Record(e, arrived, a.peer.tenant.name, isStranger || isInvalid)
}

// auditRequest writes a line about a request from a Go client, with the user and namespace that the
// connection had when the request arrived.
func (a *access) auditRequest(r request, sent int, err error) {
	switch r.op {
	case opPing, opKeepHandle, opCloseHandle:
		return // these neither read nor change data
	case opHello:
		r.user, r.namespace = a.user.User, a.namespace
	}
	a.audit(audit.Entry{
		User: r.user, Namespace: r.namespace, Operation: r.op.String(), Keys: r.keys, Received: r.received, Sent: int64(sent),
	}, r.arrived, r.number, err)
}

// keysIn returns the number of keys in the body of a request.
func (op operation) keysIn(body []byte) int64 {
	switch op {
	case opAppend, opSet, opSetOnce, opDelete, opPop, opGet:
		if len(body) >= 4 {
			return int64(binary.LittleEndian.Uint32(body))
		}
	case opOpen:
		return 1
	}
	return 0
}

// auditPython writes a line about a request from a Python client.
func (a *access) auditPython(command string, frames [][]byte, arrived time.Time, sent int64, err error) {
	e := audit.Entry{User: a.user.User, Namespace: a.namespace, Operation: command, Keys: int64(len(frames) - 1), Sent: sent}
	switch command {
	case "syn":
		return
	case "append":
		e.Keys /= 2
	case "iset":
		e.Keys = 1
	case "get", "delete", "drop", "close":
	default:
		e.Operation = "unknown"
	}
	if len(frames) == 1 && err == nil && (command == "append" || command == "get" || command == "delete") {
		return // without keys, the request does nothing
	}
	for _, f := range frames {
		e.Received += int64(len(f))
	}
	a.audit(e, arrived, 0, err)
}
