package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/base/textfmt"
)

// Rights are the rights of a user in a namespace.
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
	User  string // owner of sessions, and name in the log
	Grant string // how the [Authorizer] identifies the credential; not secret
}

// Authorizer authenticates users and returns their rights. Package remote/tokens
// implements it with a file or a map.
type Authorizer interface {
	// Authenticate identifies a client by its token or, if token is empty, by its verified
	// certificate. certificate is nil if the client has none. Only the log shows the error. The
	// running time must not depend on how much of the token is correct.
	Authenticate(token string, certificate *x509.Certificate) (Identity, error)
	// Rights returns a user's current rights in a namespace. "" is the default namespace.
	// The server calls Rights for each request.
	Rights(user Identity, namespace string) Rights
}

// ServeOptions configures [Server.ServeWith]. Nil and zero values mean the defaults.
type ServeOptions struct {
	// Namespace is the namespace of all clients of the listener. If it is empty, Go clients
	// choose a namespace, and Python's clients get the default one.
	Namespace string
	// Trusted admits clients without credentials, with every right except admin. Use it if the
	// listener itself controls who may connect, for example by the permissions of a Unix socket.
	Trusted bool
}

// errDenied is the answer to every client that lacks a right. It does not depend on the reason, so
// that it does not reveal whether a user, a token or a namespace exists. The log has the reason.
var errDenied = fmt.Errorf("the credential is missing, wrong, or without the right to do this here (%w)", fs.ErrPermission)

type access struct {
	user           Identity
	authenticated  bool // the credential was accepted, or none is needed
	trusted        bool // no credential is needed although the server has users
	namespaceFixed bool // the connection's namespace can no longer change
}

func (c *conn) rights() Rights { return c.rightsIn(c.namespace) }

func (c *conn) rightsIn(namespace string) Rights {
	a := c.server.opts.Authorizer
	switch {
	case a == nil:
		return AllRights
	case c.access.authenticated && !c.access.trusted:
		return a.Rights(c.access.user, namespace)
	case c.serveOptions.Trusted:
		return dataRights
	}
	return 0
}

// requireRights returns an error unless the connection has at least one of the required rights.
func (c *conn) requireRights(required Rights, action string) error {
	if c.rights()&required != 0 {
		return nil
	}
	if action == opFlush.String() && c.rights() != 0 { // no attack: partd.Close flushes, also for clients that only read
		return errDenied
	}
	c.server.meters.deniedRequests.Add(1)
	c.server.opts.Logger.Warn("refused", "operation", action, "user", c.access.user.User, "namespace", c.namespace,
		"peer", peerName(c.nc), "reason", "the user lacks the right "+required.String())
	return errDenied
}

// authenticate checks a client's credential, and sets the connection's namespace, which cannot
// change afterwards.
func (c *conn) authenticate(namespace, credential string) error {
	if c.serveOptions.Namespace != "" && namespace == "" {
		namespace = c.serveOptions.Namespace
	}
	var user Identity
	a := c.server.opts.Authorizer
	var certificate *x509.Certificate
	if s, ok := c.nc.(*tls.Conn); ok && len(s.ConnectionState().VerifiedChains) > 0 {
		certificate = s.ConnectionState().PeerCertificates[0]
	}
	trusted := a != nil && c.serveOptions.Trusted && credential == "" && certificate == nil
	switch {
	case a == nil && credential != "":
		return fmt.Errorf("this server has no users, but the client sent a credential: %w", errors.ErrUnsupported)
	case a != nil && !trusted:
		isGuess := credential != "" || certificate == nil
		if isGuess && !c.server.logins.MayTry(c.tenant.name, credential) {
			c.server.meters.wrongCredentials.Add(1)
			c.server.opts.Logger.Warn("a credential was not checked: too many wrong ones have come from this address", "peer", peerName(c.nc))
			return fmt.Errorf("%w (too many wrong credentials have come from this address)", ErrBusy)
		}
		var err error
		if user, err = a.Authenticate(credential, certificate); err == nil && a.Rights(user, namespace) == 0 {
			err = fmt.Errorf("user %s has no rights in the namespace", user.User)
		}
		if err != nil {
			return c.rejectCredential(namespace, err)
		}
		c.server.logins.RecordSuccess(credential)
	}
	if c.serveOptions.Namespace != "" && namespace != c.serveOptions.Namespace {
		return c.rejectCredential(namespace, fmt.Errorf("the address serves only the namespace %s", c.serveOptions.Namespace))
	}
	if namespace != "" && c.server.opts.Namespaces == nil {
		return errNoNamespaces(namespace)
	}
	if c.access.namespaceFixed && (namespace != c.namespace || user != c.access.user) {
		return fmt.Errorf("%w: a connection cannot change its user or namespace: open another one", ErrBadRequest)
	}
	c.access.user, c.access.authenticated, c.access.trusted = user, true, trusted
	c.reader.SetMaxMessage(c.server.opts.messageLimit())
	return c.bind(namespace)
}

const guessPause = 250 * time.Millisecond

// rejectCredential logs and counts a wrong credential, pauses, and returns the error for the client.
func (c *conn) rejectCredential(namespace string, cause error) error {
	c.server.meters.wrongCredentials.Add(1)
	c.server.logins.RecordFailure(c.tenant.name)
	c.server.opts.Logger.Warn("refused", "operation", opHello.String(), "namespace", truncate(namespace), "peer", peerName(c.nc), "reason", cause)
	select {
	case <-time.After(guessPause):
	case <-c.ctx.Done():
	}
	return errDenied
}

// If the client has not chosen a namespace, bindDefault binds the connection to the listener's
// namespace, or to the default one if the listener has none.
func (c *conn) bindDefault() error {
	if c.access.namespaceFixed || c.rights() == 0 {
		return nil // requireRights will refuse the request
	}
	return c.bind(c.serveOptions.Namespace)
}

// bind sets the connection's namespace, which cannot change afterwards.
func (c *conn) bind(namespace string) error {
	if !c.access.namespaceFixed {
		p, err := c.server.enterSpace(namespace)
		if err != nil {
			return err
		}
		c.access.namespaceFixed, c.namespace, c.space, c.handles.space = true, namespace, p, p
	}
	return nil
}
