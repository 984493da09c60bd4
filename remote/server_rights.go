package remote

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

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
