package flightd

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// access decides who may call the server.
type access struct {
	core       *serving.Core
	opts       *serving.Options
	handshakes *serving.CallLimit
}

// verify is like Core.Verify, but rejects tokens that cover only some buckets, because these are valid only over HTTP.
func (a *access) verify(address, token string) (serving.Caller, error) {
	c, err := a.core.Verify(address, token)
	if err == nil && c.Buckets != nil {
		return serving.Caller{}, errors.New("the token is limited to some buckets, so it is valid only over HTTP: for Flight, use a token for all buckets")
	}
	return c, err
}

func (a *access) identify(ctx context.Context) (serving.Caller, error) {
	if a.opts.Secret == nil {
		return serving.Caller{Rights: serving.Admin}, nil
	}
	token, ok := headerToken(ctx)
	if !ok {
		return serving.Caller{}, kinds.Unauthenticated.Errorf("this server requires a token with every call: No authentication header provided by client")
	}
	c, err := a.verify(addressOf(ctx), token)
	if err != nil {
		return serving.Caller{}, kinds.Unauthenticated.Errorf("the token is not valid: %v", err)
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

// handshake implements Server.Handshake.
func (a *access) handshake(st flight.FlightService_HandshakeServer) error {
	address := addressOf(st.Context())
	release, ok := a.handshakes.Acquire(address, func() { callOf(st.Context()).cancel(serving.ErrCrowded) })
	if !ok {
		return serving.ErrCrowded
	}
	defer release()
	if a.opts.Secret == nil {
		if _, err := st.Recv(); err != nil {
			return nil // the client sent no request, so it expects no reply
		}
		return st.Send(&flight.HandshakeResponse{})
	}
	token, inHeader := headerToken(st.Context())
	if inHeader {
		if _, err := a.identify(st.Context()); err != nil {
			return err
		}
	} else {
		in, err := st.Recv()
		if err != nil {
			return kinds.Unauthenticated.Errorf("the handshake has neither a header with credentials nor a payload")
		}
		token, err = a.payloadToken(address, in.Payload)
		if err != nil {
			return asShootsError(err)
		}
	}
	if err := st.SendHeader(metadata.Pairs("authorization", "Bearer "+token)); err != nil {
		return err
	}
	return st.Send(&flight.HandshakeResponse{Payload: []byte(token)})
}

// payloadToken returns the token in a handshake's payload, or an error if the token is not valid. The payload is a
// BasicAuth message whose password is the token. Clients of shoots instead send an admin token as the whole payload.
func (a *access) payloadToken(address string, payload []byte) (string, error) {
	var basic flight.BasicAuth
	if proto.Unmarshal(payload, &basic) == nil && basic.Password != "" {
		if _, err := a.verify(address, basic.Password); err != nil {
			return "", kinds.Unauthenticated.Errorf("the password is not a valid token: %v", err)
		}
		return basic.Password, nil
	}
	c, err := a.verify(address, string(payload))
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid) && !errors.Is(err, jwt.ErrTokenUnverifiable):
		return "", newShootsError(kinds.Unauthenticated, fmt.Errorf("InvalidSignatureError: Signature verification failed: %w", err))
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", newShootsError(kinds.Unauthenticated, fmt.Errorf("ExpiredSignatureError: Signature has expired: %w", err))
	case errors.Is(err, jwt.ErrTokenMalformed), errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "", newShootsError(kinds.Unauthenticated, fmt.Errorf("DecodeError: the payload is not a token: %w", err))
	case errors.Is(err, serving.ErrTooManyGuesses):
		return "", kinds.Unauthenticated.Errorf("%v", err)
	case err != nil, c.Rights < serving.Admin:
		return "", kinds.Unauthenticated.Errorf("token has incorrect permissions: a token that is sent as the whole payload must have type admin")
	}
	return string(payload), nil
}

// requireShutdown returns an error unless the call may shut down the server. If the server has a secret, the call needs
// admin rights. Otherwise, the call must come from this machine.
func (a *access) requireShutdown(ctx context.Context) error {
	if a.opts.Secret != nil {
		return serving.RequireAdmin(ctx)
	}
	if p, ok := peer.FromContext(ctx); ok {
		if ip := net.ParseIP(serving.HostOf(p.Addr.String())); ip != nil && ip.IsLoopback() || p.Addr.Network() == serving.LocalHost {
			return nil
		}
	}
	return kinds.Permission.Errorf("without a secret, only a client on the same machine may shut down the server")
}
