package pull

import "testing"

// A registry that others wrote to leads no node, and no token, elsewhere than to a node.
func TestFetchable(t *testing.T) {
	for address, want := range map[string]bool{
		"http://10.0.0.1:80": true, "https://host:1": true, "http://[::1]:80": true,
		"": false, "host:1": false, "http://": false, "file:///etc": false, "http://user@host:1": false,
		"http://host:1/path": false, "http://host:1?q": false, "http://host:1#f": false, "http://host:1/": false,
	} {
		if got := fetchable(address, false); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
	if fetchable("http://host:1", true) {
		t.Error("the token goes out without TLS")
	}
}
