package cliutil

import (
	"net/url"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// SplitURL returns the scheme of the bottom store in a store's URL, such as "file", and its
// location as a path.
func SplitURL(rawURL string) (scheme, location string) {
	prefix, rest, _ := strings.Cut(rawURL, ":")
	scheme = prefix[strings.LastIndexByte(prefix, '+')+1:]
	location, _, _ = strings.Cut(rest, "?")
	if path, err := url.PathUnescape(location); err == nil {
		location = path
	}
	return scheme, strings.TrimPrefix(location, "//")
}

// BottomStore returns the store beneath all layers.
func BottomStore(store partd.Partd) partd.Partd {
	for store = range storekit.Layers(store) {
	}
	return store
}
