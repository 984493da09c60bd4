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

// claims are the contents of a token, as shoots defines them.
type claims struct {
	jwt.RegisteredClaims
	Server  string   `json:"server,omitempty"`
	Type    string   `json:"type"`
	Buckets []string `json:"buckets,omitempty"`
}

var rightsOf = map[string]Rights{"read": Read, "admin": Admin}

// NewToken returns a token for servers with the same secret. If buckets are given, the token is
// valid only for these, and only over HTTP: Flight refuses it.
func NewToken(secret []byte, r Rights, server string, ttl time.Duration, buckets ...string) (string, error) {
	if len(secret) == 0 {
		return "", errors.New("a token needs a secret that is not empty")
	}
	now := time.Now()
	c := claims{Server: server, Buckets: buckets}
	c.IssuedAt, c.ExpiresAt = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(ttl))
	for name, rights := range rightsOf {
		if rights == r {
			c.Type = name
		}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
}

var parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired())

// verify returns the caller to whom a token belongs, for a call over Flight.
func (s *Server) verify(address, token string) (Caller, error) {
	c, err := s.Verify(address, token)
	if err == nil && c.Buckets != nil {
		return Caller{}, errors.New("it is limited to some buckets, and valid only over HTTP: Flight needs a token for all buckets")
	}
	return c, err
}

// ErrGuesses is the error of Verify for an address that has sent too many wrong tokens.
var ErrGuesses = errors.New("too many wrong tokens came from this address: wait a second, and try again")

// Verify checks a token that came from an address, and returns the caller to whom it
// belongs. A server without a secret needs no token. Signatures are compared in constant
// time.
func (s *Server) Verify(address, token string) (Caller, error) {
	if s.opts.Secret == nil {
		return Caller{Rights: Admin, readOnly: s.opts.ReadOnly}, nil
	}
	host := hostOfAddress(address)
	if !s.logins.MayTry(host, token) {
		return Caller{}, ErrGuesses
	}
	var c claims
	if _, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.opts.Secret, nil }); err != nil {
		if !errors.Is(err, jwt.ErrTokenInvalidClaims) { // other errors mean a bad signature
			s.logins.RecordFailure(host)
		}
		return Caller{}, err
	}
	s.logins.RecordSuccess(token)
	r, ok := rightsOf[c.Type]
	if !ok {
		return Caller{}, errors.New("the token's type is neither read nor admin")
	}
	signed := token[:strings.LastIndexByte(token, '.')] // without the signature, because the same signature has several encodings
	return Caller{r, c.Buckets, c.ExpiresAt.Time, signed, s.opts.ReadOnly}, nil
}

// Bearer verifies the token in the request's Authorization header, or other if the header has none.
func (s *Server) Bearer(r *http.Request, other string) (Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = other
	}
	if token == "" && s.opts.Secret != nil {
		return Caller{}, errors.New("the request has no token")
	}
	return s.Verify(r.RemoteAddr, token)
}

// identify returns the caller of a call. Its headers carry the token as a bearer token, as the
// password of any user, or in the header that pyarrow's authenticate sets.
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

func headerToken(ctx context.Context) (token string, ok bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, credentials, _ := strings.Cut(v, " ")
		switch strings.ToLower(scheme) {
		case "bearer":
			return credentials, true
		case "basic":
			return passwordOf(credentials), true
		}
	}
	for _, v := range md.Get("auth-token-bin") {
		return v, true
	}
	return "", false
}

// passwordOf returns the password of basic credentials, or "" if they are malformed.
func passwordOf(credentials string) string {
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(credentials, "="))
	if err != nil {
		return ""
	}
	_, password, _ := strings.Cut(string(plain), ":")
	return password
}

// Handshake checks credentials and returns them as a bearer token, in a header and in the payload,
// because some clients read only one of them.
func (s *Server) Handshake(st flight.FlightService_HandshakeServer) error {
	c := st.Context().Value(callKey{}).(*call) //nolint:forcetypeassert // every call has one
	leave, ok := s.handshakes.Take(c.conn, func() { c.cancel(errCrowded) })
	if !ok {
		return Status(errCrowded)
	}
	defer leave()
	if s.opts.Secret == nil {
		if _, err := st.Recv(); err != nil {
			return nil // the client sent nothing, so it gets nothing
		}
		return st.Send(&flight.HandshakeResponse{})
	}
	token, has := headerToken(st.Context())
	if has {
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

// payloadToken returns the token in a payload. A bare token, as shoots' clients send it, must have
// admin rights. As the password of a BasicAuth message, any valid token will do.
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
	case errors.Is(err, ErrGuesses):
		return "", status.Error(codes.Unauthenticated, err.Error())
	case err != nil, c.Rights < Admin:
		return "", status.Error(codes.Unauthenticated, "token has incorrect permissions: a client of this kind needs type admin")
	}
	return string(payload), nil
}

// requireShutdown returns an error unless the call may shut down the server. With a secret, it needs admin
// rights; without one, it must come from this machine.
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
