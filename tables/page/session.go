package page

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

const cookieName = "partd-token"

// identify returns who makes a request: by the header's token, or the cookie's.
func (h *handler) identify(r *http.Request) (flightd.Caller, error) {
	token := ""
	if c, err := r.Cookie(cookieName); err == nil {
		token = c.Value
	}
	return h.server.Bearer(r, token)
}

// refused is the answer to a token that is not taken.
func refused(what string, err error) *problem {
	if errors.Is(err, flightd.ErrGuesses) {
		return &problem{Status: http.StatusTooManyRequests, Text: err.Error()}
	}
	return &problem{Status: http.StatusUnauthorized, Text: what + err.Error()}
}

type session struct {
	Secret   bool       `json:"secret"`
	SignedIn bool       `json:"signed_in"`
	Rights   string     `json:"rights"`
	Buckets  []string   `json:"buckets"`
	Expires  *time.Time `json:"expires"`
}

func (h *handler) sessionOf(c flightd.Caller) session {
	s := session{Secret: h.opts.Secret != nil, SignedIn: c.Rights >= flightd.Read, Buckets: c.Buckets}
	s.Rights = map[flightd.Rights]string{flightd.None: "none", flightd.Read: "read", flightd.Admin: "admin"}[c.Rights]
	if !c.Expires.IsZero() {
		at := c.Expires.UTC()
		s.Expires = &at
	}
	return s
}

func (h *handler) session(q *request) error { return q.reply(h.sessionOf(q.Caller)) }

func (h *handler) signIn(q *request) error {
	var c struct {
		Token string `json:"token"`
	}
	if err := q.parse(&c); err != nil {
		return err
	}
	if h.opts.Secret == nil {
		return q.reply(h.sessionOf(q.Caller))
	}
	caller, err := h.server.Verify(q.RemoteAddr, c.Token)
	if err != nil {
		return refused("the token is not valid: ", err)
	}
	h.setCookie(q, c.Token, 0)
	return q.reply(h.sessionOf(caller))
}

func (h *handler) signOut(q *request) error {
	h.setCookie(q, "", -1)
	if h.opts.Secret == nil {
		return q.reply(h.sessionOf(q.Caller))
	}
	return q.reply(h.sessionOf(flightd.Caller{}))
}

func (h *handler) setCookie(q *request, token string, age int) {
	http.SetCookie(q.W, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: age, HttpOnly: true, Secure: q.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}
