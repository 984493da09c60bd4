package serving

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
)

// Rights are the permissions that a token grants.
type Rights uint8

// Each right includes the rights listed before it.
const (
	None  Rights = iota
	Read         // read rows, and list buckets and tables
	Admin        // do everything, including shutting down the server
)

// Caller is the holder of a token.
type Caller struct {
	Rights  Rights
	Buckets []string  // buckets that the token covers; nil means all
	Expires time.Time // when the token expires; zero without a token
	Name    string    // the token's name; may be ""
	user    string    // whom limits apply to: the token's name or, if it has none, the token without its signature

	readOnly bool // whether the server rejects changes, whatever the rights are
}

// User returns a string that identifies the token's user, or "" if the server requires no tokens.
func (c *Caller) User() string { return c.user }

// CheckAccess returns an error that wraps fs.ErrPermission unless the caller has the right r in all of the buckets.
func (c *Caller) CheckAccess(r Rights, buckets ...string) error {
	if c.readOnly && r > Read {
		return fmt.Errorf("%w: %w", tables.ErrReadOnly, fs.ErrPermission)
	}
	if c.Rights < r {
		return fmt.Errorf("the token allows reading only; this request needs an admin token: %w", fs.ErrPermission)
	}
	for _, b := range buckets {
		if c.Buckets != nil && !slices.Contains(c.Buckets, b) {
			return fmt.Errorf("the token does not cover bucket %q: %w", b, fs.ErrPermission)
		}
	}
	return nil
}

// claims is the content of a token, which is a JSON Web Token. Its fields are those of the tokens of shoots,
// another table server.
type claims struct {
	jwt.RegisteredClaims
	Server  string   `json:"server,omitempty"`
	Type    string   `json:"type"`
	Buckets []string `json:"buckets,omitempty"`
}

var rightsByType = map[string]Rights{"read": Read, "admin": Admin}

// NewToken returns a token for servers with the given secret. It expires after ttl. server is recorded in the token,
// but servers do not check it. If buckets are given, the token covers only these buckets, and is valid only over HTTP,
// not over Flight.
func NewToken(secret []byte, r Rights, server string, ttl time.Duration, buckets ...string) (string, error) {
	return claims{Server: server, Buckets: buckets}.sign(secret, r, ttl)
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)

// CheckName returns an error if name is not a valid name for a token.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("the name %.80q is invalid: a name must consist of 1 to 64 letters, digits, '-', '_', '.' and '@'", name)
	}
	return nil
}

// NewNamedToken is like NewToken, but gives the token a name, which appears in logs. All tokens with the same name share limits
// and are revoked together.
func NewNamedToken(secret []byte, name string, r Rights, ttl time.Duration, buckets ...string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	return claims{RegisteredClaims: jwt.RegisteredClaims{Subject: name}, Buckets: buckets}.sign(secret, r, ttl)
}

func (c claims) sign(secret []byte, r Rights, ttl time.Duration) (string, error) {
	if len(secret) == 0 {
		return "", errors.New("the secret for a token must not be empty")
	}
	now := time.Now()
	c.IssuedAt, c.ExpiresAt = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(ttl))
	for name, rights := range rightsByType {
		if rights == r {
			c.Type = name
		}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
}

var parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired())

// credentials decide which tokens are valid.
type credentials struct {
	secrets jwt.VerificationKeySet
	revoked []string // names whose tokens are rejected
}

// SetSecrets replaces the secrets with which tokens may be signed, and the names of revoked tokens. Only calls that
// begin afterwards are affected; running calls continue. SetSecrets cannot change whether the server requires tokens:
// it does if Options.Secret is set.
func (s *Core) SetSecrets(secrets [][]byte, revoked []string) error {
	c := &credentials{revoked: revoked}
	for _, secret := range secrets {
		if len(secret) == 0 {
			return errors.New("a secret is empty, so anybody could sign tokens")
		}
		c.secrets.Keys = append(c.secrets.Keys, secret)
	}
	if (len(secrets) > 0) != (s.opts.Secret != nil) {
		return errors.New("a running server cannot start or stop requiring tokens")
	}
	s.credentials.Store(c)
	return nil
}

// ErrTooManyGuesses means that an address has sent too many wrong tokens.
var ErrTooManyGuesses = kinds.Busy.Errorf("too many wrong tokens came from this address: wait a second, and try again")

// TokenError returns the error for a request whose token was rejected with err. Its text starts with prefix, unless err
// is ErrTooManyGuesses.
func TokenError(prefix string, err error) error {
	if errors.Is(err, ErrTooManyGuesses) {
		return err
	}
	return kinds.Unauthenticated.Errorf("%s: %v", prefix, err)
}

// Verify checks a token sent from an address and returns the caller to whom it belongs. A server without a secret
// accepts any token.
func (s *Core) Verify(address, token string) (Caller, error) {
	if s.opts.Secret == nil {
		return Caller{Rights: Admin, readOnly: s.opts.ReadOnly}, nil
	}
	host := HostOf(address)
	if !s.logins.MayTry(host, token) {
		return Caller{}, ErrTooManyGuesses
	}
	var c claims
	valid := s.credentials.Load()
	key := func(t *jwt.Token) (any, error) {
		// RFC 7515 forbids accepting a token with an extension that is not understood
		if names, ok := t.Header["crit"]; ok {
			return nil, fmt.Errorf("the token's header lists critical extensions, and none is supported: %.100v", names)
		}
		return valid.secrets, nil
	}
	if _, err := parser.ParseWithClaims(token, &c, key); err != nil {
		if !errors.Is(err, jwt.ErrTokenInvalidClaims) { // the parser returns this error only if the signature is valid
			s.logins.RecordFailure(host)
		}
		return Caller{}, err
	}
	s.logins.RecordSuccess(token)
	r, ok := rightsByType[c.Type]
	if !ok {
		return Caller{}, errors.New("the token's type is neither read nor admin")
	}
	if c.Subject != "" && slices.Contains(valid.revoked, c.Subject) {
		return Caller{}, fmt.Errorf("tokens with the name %q are revoked", c.Subject)
	}
	// The name identifies the user, so a new token with the same name does not get new limits. Without a name, the token
	// identifies the user, but without its signature, because one signature has several encodings.
	user := "name " + c.Subject
	if c.Subject == "" {
		user = token[:strings.LastIndexByte(token, '.')]
	}
	return Caller{r, c.Buckets, c.ExpiresAt.Time, c.Subject, user, s.opts.ReadOnly}, nil
}

// Bearer verifies the bearer token in the request's Authorization header, or fallback if the header contains none.
func (s *Core) Bearer(r *http.Request, fallback string) (Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = fallback
	}
	if token == "" && s.opts.Secret != nil {
		return Caller{}, errors.New("the request has no token")
	}
	return s.Verify(r.RemoteAddr, token)
}

var crossOrigin = http.NewCrossOriginProtection()

// CheckSite returns an error if a page on another site made the request. Other sites may link to a page on this server,
// but must not read the server's data. forData says whether the request is for data.
func (s *Core) CheckSite(r *http.Request, forData bool) error {
	forbidden := func(reason string) error { return fmt.Errorf("%s: %w", reason, fs.ErrPermission) }
	if err := crossOrigin.Check(r); err != nil {
		return forbidden("the request comes from another site: " + err.Error())
	}
	if site := r.Header.Get("Sec-Fetch-Site"); forData && site != "" && site != "same-origin" && site != "none" {
		return forbidden("the request comes from another site")
	}
	// DNS rebinding: another site can let its own name resolve to a loopback address. The browser then takes this server
	// for the same site as the page, but the header Host still contains the name.
	localAddr, isTCP := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if s.opts.Secret == nil && isTCP && localAddr.IP.IsLoopback() && !isLoopbackHost(r.Host) {
		return forbidden("the request may come from another site: its header Host is neither localhost nor a loopback address")
	}
	return nil
}

func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
