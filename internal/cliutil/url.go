package cliutil

import (
	"net/url"
	"strings"
)

// SplitURL returns what stores a URL's data, as "file", and the path that is
// its location.
func SplitURL(rawURL string) (scheme, location string) {
	prefix, rest, _ := strings.Cut(rawURL, ":")
	scheme = prefix[strings.LastIndexByte(prefix, '+')+1:]
	location, _, _ = strings.Cut(rest, "?")
	if path, err := url.PathUnescape(location); err == nil {
		location = path
	}
	return scheme, strings.TrimPrefix(location, "//")
}
