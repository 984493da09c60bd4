package flightd

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
)

var crossOrigin = http.NewCrossOriginProtection()

// Admits returns nil unless a page of another site made the request. A request for data, as
// opposed to a page (fetched), is refused even if such a page only reads.
func (s *Server) Admits(r *http.Request, fetched bool) error {
	forbidden := func(text string) error { return fmt.Errorf("%s: %w", text, fs.ErrPermission) }
	if err := crossOrigin.Check(r); err != nil {
		return forbidden("the request comes from another site: " + err.Error())
	}
	if site := r.Header.Get("Sec-Fetch-Site"); fetched && site != "" && site != "same-origin" && site != "none" {
		return forbidden("the request comes from another site")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if s.opts.Secret == nil && loopback(local) && !loopbackHost(r.Host) {
		return forbidden("the header Host is neither localhost nor a loopback address: another site's name may lead here")
	}
	return nil
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
