package pull

import "testing"

// TestValidAddress checks that a node sends its token only to plain node addresses.
func TestValidAddress(t *testing.T) {
	for address, want := range map[string]bool{
		"http://10.0.0.1:80": true, "https://host:1": true, "http://[::1]:80": true,
		"": false, "host:1": false, "http://": false, "file:///etc": false, "http://user@host:1": false,
		"http://host:1/path": false, "http://host:1?q": false, "http://host:1#f": false, "http://host:1/": false,
	} {
		if got := validAddress(address, false); got != want {
			t.Errorf("validAddress(%q, false) = %v, want %v", address, got, want)
		}
	}
	if validAddress("http://host:1", true) {
		t.Error("validAddress accepts an http address on a node with TLS")
	}
}
