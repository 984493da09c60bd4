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

// claims are what shoots' tokens say.
type claims struct {
	jwt.RegisteredClaims
	Server  string   `json:"server,omitempty"`
	Type    string   `json:"type"`
	Buckets []string `json:"buckets,omitempty"`
}

var rightsOf = map[string]Rights{"read": Read, "admin": Admin}

// NewToken returns a token for servers with the same secret. With buckets, the token is
// limited to these and to HTTP: Flight refuses it.
func NewToken(secret []byte, r Rights, server string, ttl time.Duration, buckets ...string) (string, error) {
	if len(secret) == 0 {
		return "", errors.New("a token takes a secret that is not empty")
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

// verify returns whose a token is for a call of Flight.
func (s *Server) verify(address, token string) (Caller, error) {
	c, err := s.Verify(address, token)
	if err == nil && c.Buckets != nil {
		return Caller{}, errors.New("it is for some buckets alone, and so for HTTP: Flight takes tokens for all of them")
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
		if !errors.Is(err, jwt.ErrTokenInvalidClaims) { // else it is signed
			s.logins.Wrong(host)
		}
		return Caller{}, err
	}
	s.logins.Right(token)
	r, ok := rightsOf[c.Type]
	if !ok {
		return Caller{}, errors.New("the token's type is neither read nor admin")
	}
	signed := token[:strings.LastIndexByte(token, '.')] // a signature can be written in several ways
	return Caller{r, c.Buckets, c.ExpiresAt.Time, signed, s.opts.ReadOnly}, nil
}

// Bearer is Verify for the token in a request's header, or another where there is none.
func (s *Server) Bearer(r *http.Request, other string) (Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = other
	}
	if token == "" && s.opts.Secret != nil {
		return Caller{}, errors.New("there is none with the request")
	}
	return s.Verify(r.RemoteAddr, token)
}

// identify returns who makes a call, by its headers: a bearer token, or one as the
// password of any user, or as pyarrow's authenticate sends it.
func (s *Server) identify(ctx context.Context) (Caller, error) {
	if s.opts.Secret == nil {
		return Caller{Rights: Admin}, nil
	}
	token, ok := headerToken(ctx)
	if !ok {
		return Caller{}, status.Error(codes.Unauthenticated, "this server wants a token with every call: No authentication header provided by client")
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

// passwordOf is "" for what is no user and password, which is no token either.
func passwordOf(credentials string) string {
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(credentials, "="))
	if err != nil {
		return ""
	}
	_, password, _ := strings.Cut(string(plain), ":")
	return password
}

// Handshake checks credentials and returns them as a bearer token, in a header and in the
// payload, since clients read one or the other.
func (s *Server) Handshake(st flight.FlightService_HandshakeServer) error {
	c := st.Context().Value(callKey{}).(*call) //nolint:forcetypeassert // every call has one
	leave, ok := s.handshakes.Take(c.conn, func() { c.cancel(errCrowded) })
	if !ok {
		return Status(errCrowded)
	}
	defer leave()
	if s.opts.Secret == nil {
		if _, err := st.Recv(); err != nil {
			return nil // a client that says nothing wants nothing
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
			return told(st, err)
		}
	}
	if err := st.SendHeader(metadata.Pairs("authorization", "Bearer "+token)); err != nil {
		return err
	}
	return st.Send(&flight.HandshakeResponse{Payload: []byte(token)})
}

// payloadToken returns the token of a payload: a bare one, as shoots' clients send
// it, must be an admin's; as a password of Flight's own message it may be any.
func (s *Server) payloadToken(address string, payload []byte) (string, error) {
	var basic flight.BasicAuth
	if proto.Unmarshal(payload, &basic) == nil && basic.Password != "" {
		if _, err := s.verify(address, basic.Password); err != nil {
			return "", status.Errorf(codes.Unauthenticated, "the password is no valid token: %v", err)
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
		return "", &failure{kindOther, fmt.Errorf("DecodeError: the payload is no token: %w", err)}
	case errors.Is(err, ErrGuesses):
		return "", status.Error(codes.Unauthenticated, err.Error())
	case err != nil, c.Rights < Admin:
		return "", status.Error(codes.Unauthenticated, "token has incorrect permissions: a client of this kind needs type admin")
	}
	return string(payload), nil
}

// mayEnd is nil where the call may end the server: with an admin's token or,
// where there are none, from the same machine.
func (s *Server) mayEnd(ctx context.Context) error {
	if s.opts.Secret != nil {
		return mayAll(ctx)
	}
	if p, ok := peer.FromContext(ctx); ok {
		if ip := net.ParseIP(hostOf(p.Addr)); ip != nil && ip.IsLoopback() || p.Addr.Network() == localHost {
			return nil
		}
	}
	return status.Error(codes.PermissionDenied, "without a secret, only a client on the same machine may end the server")
}
