package rest

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

func unauthorized(err error) error {
	if errors.Is(err, flightd.ErrGuesses) {
		return &problem{Code: http.StatusServiceUnavailable, Type: "SlowDownException", Message: err.Error()}
	}
	return &problem{Code: http.StatusUnauthorized, Type: "NotAuthorizedException", Message: "a valid token is needed (partd-tables token makes one): " + err.Error()}
}

// The kinds of grants.
const (
	byCredentials = "client_credentials"
	byExchange    = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenType     = "urn:ietf:params:oauth:token-type:access_token"
)

// token answers as OAuth2 does: the secret of a client is a token already, whatever the
// client's id, and is given back. So is a token that is exchanged for another, as clients
// do before one ends: who needs a longer one takes a new credential.
func (h *handler) token(q *request) error {
	refuse := func(code int, kind, text string) error {
		return q.reply(code, map[string]string{"error": kind, "error_description": text})
	}
	if err := q.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "invalid_request", "the body has to be a form: "+err.Error())
	}
	var token string
	switch q.PostForm.Get("grant_type") {
	case byCredentials:
		var basic bool
		if _, token, basic = q.BasicAuth(); !basic {
			token = q.PostForm.Get("client_secret")
		}
	case byExchange:
		token = q.PostForm.Get("subject_token")
	default:
		return refuse(http.StatusBadRequest, "unsupported_grant_type", "it has to be "+byCredentials+" or "+byExchange)
	}
	c, err := h.server.Verify(q.RemoteAddr, token)
	if errors.Is(err, flightd.ErrGuesses) {
		return unauthorized(err)
	}
	if err != nil {
		return refuse(http.StatusUnauthorized, "invalid_client", "the client's secret is no valid token (partd-tables token makes one): "+err.Error())
	}
	answer := map[string]any{"access_token": token, "token_type": "bearer", "issued_token_type": tokenType}
	if h.opts.Secret == nil {
		answer["access_token"] = "none-is-needed"
	}
	if !c.Expires.IsZero() {
		answer["expires_in"] = int64(time.Until(c.Expires).Seconds())
	}
	return q.reply(http.StatusOK, answer)
}
