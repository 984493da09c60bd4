package flightd

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// claims is the content of a token, which is a JSON Web Token. It has the fields of the tokens of shoots, another table
// server.
type claims struct {
	jwt.RegisteredClaims
	Server  string   `json:"server,omitempty"`
	Type    string   `json:"type"`
	Buckets []string `json:"buckets,omitempty"`
}

var rightsByType = map[string]Rights{"read": Read, "admin": Admin}

// NewToken returns a token for servers with the given secret. If buckets are given, the token covers only these
// buckets, and is valid only over HTTP, not over Flight.
func NewToken(secret []byte, r Rights, server string, ttl time.Duration, buckets ...string) (string, error) {
	if len(secret) == 0 {
		return "", errors.New("the secret for a token must not be empty")
	}
	now := time.Now()
	c := claims{Server: server, Buckets: buckets}
	c.IssuedAt, c.ExpiresAt = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(ttl))
	for name, rights := range rightsByType {
		if rights == r {
			c.Type = name
		}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
}

var parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired())

// verify is like Verify, but rejects tokens that cover only some buckets: such tokens are valid only over HTTP.
func (s *Server) verify(address, token string) (Caller, error) {
	c, err := s.Verify(address, token)
	if err == nil && c.Buckets != nil {
		return Caller{}, errors.New("the token is limited to some buckets, so it is valid only over HTTP: for Flight, use a token for all buckets")
	}
	return c, err
}

// ErrTooManyGuesses means that an address has sent too many wrong tokens.
var ErrTooManyGuesses = errors.New("too many wrong tokens came from this address: wait a second, and try again")

// Verify checks a token sent from an address, and returns the caller to whom the token belongs. A server without a
// secret accepts any token.
func (s *Server) Verify(address, token string) (Caller, error) {
	if s.opts.Secret == nil {
		return Caller{Rights: Admin, readOnly: s.opts.ReadOnly}, nil
	}
	host := hostOfAddress(address)
	if !s.logins.MayTry(host, token) {
		return Caller{}, ErrTooManyGuesses
	}
	var c claims
	if _, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.opts.Secret, nil }); err != nil {
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
	// The token identifies the user. Exclude its signature, because one signature has several encodings.
	unsigned := token[:strings.LastIndexByte(token, '.')]
	return Caller{r, c.Buckets, c.ExpiresAt.Time, unsigned, s.opts.ReadOnly}, nil
}

// Bearer verifies the bearer token in the request's Authorization header, or fallback if the header contains no bearer token.
func (s *Server) Bearer(r *http.Request, fallback string) (Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = fallback
	}
	if token == "" && s.opts.Secret != nil {
		return Caller{}, errors.New("the request has no token")
	}
	return s.Verify(r.RemoteAddr, token)
}

func (s *Server) identify(ctx context.Context) (Caller, error) {
	if s.opts.Secret == nil {
		return Caller{Rights: Admin}, nil
	}
	token, ok := headerToken(ctx)
	if !ok {
		return Caller{}, status.Error(codes.Unauthenticated, "this server requires a token with every call: No authentication header provided by client")
	}
	c, err := s.verify(addressOf(ctx), token)
	if err != nil {
		return Caller{}, status.Errorf(codes.Unauthenticated, "the token is not valid: %v", err)
	}
	return c, nil
}

// headerToken returns the token in a call's headers: a bearer token, the password of any user, or the value of the
// header that pyarrow's authenticate sets.
func headerToken(ctx context.Context) (token string, ok bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, credentials, _ := strings.Cut(v, " ")
		switch strings.ToLower(scheme) {
		case "bearer":
			return credentials, true
		case "basic":
			return basicPassword(credentials), true
		}
	}
	for _, v := range md.Get("auth-token-bin") {
		return v, true
	}
	return "", false
}

func basicPassword(credentials string) string {
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(credentials, "="))
	if err != nil {
		return ""
	}
	_, password, _ := strings.Cut(string(plain), ":")
	return password
}

// Handshake checks credentials and returns them as a bearer token. Some clients read only the header, and some only
// the payload, so both contain the token.
func (s *Server) Handshake(st flight.FlightService_HandshakeServer) error {
	c := st.Context().Value(callKey{}).(*call) //nolint:forcetypeassert // the context of every call has one
	release, ok := s.handshakes.Acquire(c.conn, func() { c.cancel(errCrowded) })
	if !ok {
		return Status(errCrowded)
	}
	defer release()
	if s.opts.Secret == nil {
		if _, err := st.Recv(); err != nil {
			return nil // the client sent no request, so it expects no reply
		}
		return st.Send(&flight.HandshakeResponse{})
	}
	token, inHeader := headerToken(st.Context())
	if inHeader {
		if _, err := s.identify(st.Context()); err != nil {
			return err
		}
	} else {
		in, err := st.Recv()
		if err != nil {
			return status.Error(codes.Unauthenticated, "the handshake has neither a header with credentials nor a payload")
		}
		if token, err = s.payloadToken(c.conn, in.Payload); err != nil {
			return asShootsError(st, err)
		}
	}
	if err := st.SendHeader(metadata.Pairs("authorization", "Bearer "+token)); err != nil {
		return err
	}
	return st.Send(&flight.HandshakeResponse{Payload: []byte(token)})
}

// payloadToken returns the token in a handshake's payload, or an error if the token is not valid. The payload is a
// BasicAuth message whose password is the token or, from clients of shoots, an admin token alone.
func (s *Server) payloadToken(address string, payload []byte) (string, error) {
	var basic flight.BasicAuth
	if proto.Unmarshal(payload, &basic) == nil && basic.Password != "" {
		if _, err := s.verify(address, basic.Password); err != nil {
			return "", status.Errorf(codes.Unauthenticated, "the password is not a valid token: %v", err)
		}
		return basic.Password, nil
	}
	c, err := s.verify(address, string(payload))
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid) && !errors.Is(err, jwt.ErrTokenUnverifiable):
		return "", &failure{kindOther, fmt.Errorf("InvalidSignatureError: Signature verification failed: %w", err)}
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", &failure{kindOther, fmt.Errorf("ExpiredSignatureError: Signature has expired: %w", err)}
	case errors.Is(err, jwt.ErrTokenMalformed), errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "", &failure{kindOther, fmt.Errorf("DecodeError: the payload is not a token: %w", err)}
	case errors.Is(err, ErrTooManyGuesses):
		return "", status.Error(codes.Unauthenticated, err.Error())
	case err != nil, c.Rights < Admin:
		return "", status.Error(codes.Unauthenticated, "token has incorrect permissions: a token that is sent as the whole payload must have type admin")
	}
	return string(payload), nil
}

// requireShutdown returns an error unless the call may shut down the server. If the server has a secret, the call needs
// admin rights. Otherwise, the call must come from this machine.
func (s *Server) requireShutdown(ctx context.Context) error {
	if s.opts.Secret != nil {
		return requireAdmin(ctx)
	}
	if p, ok := peer.FromContext(ctx); ok {
		if ip := net.ParseIP(hostOf(p.Addr)); ip != nil && ip.IsLoopback() || p.Addr.Network() == localHost {
			return nil
		}
	}
	return status.Error(codes.PermissionDenied, "without a secret, only a client on the same machine may shut down the server")
}
