package pull

import "testing"

// TestFetchable checks that the registry can only name addresses of nodes, so that tokens
// go nowhere else.
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
