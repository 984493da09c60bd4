package shuffle

// ThreeServers starts three servers, and returns a URL that names all of them.
var ThreeServers = threeServers
