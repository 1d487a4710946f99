package repositories

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// kind is where an address leads.
type kind int

const (
	network   kind = iota // http, https or ftp
	directory             // of this machine
	image                 // a file with an ISO 9660 file system
)

// address is an understood address.
type address struct {
	kind           kind
	uri            string // of the network, without secrets
	path           string // of a directory or image; a relative one lies beside the description
	user, password string
	credentials    string // name of a file with the user name and the password (libzypp's ?credentials=), or ""
}

// addressError says what is wrong with an address, without its secrets.
type addressError struct{ text, hint string }

const howToWrite = "write it as http://host/path, https://, ftp://, file:///path, dir:///path, iso:///path, this://path-beside-the-description or obs://PROJECT/REPOSITORY"

// parseAddress understands what KIWI takes for a repository's source. buildService is what obs:// addresses are below.
func parseAddress(raw, buildService string) (address, *addressError) {
	shown := withoutSecrets(raw)
	for _, c := range raw {
		if c < ' ' || c == 0x7f {
			return address{}, &addressError{"the repository's address has a control character in it", howToWrite}
		}
	}
	if strings.HasPrefix(raw, "/") {
		return address{kind: directory, path: raw}, nil
	}
	scheme, rest, found := strings.Cut(raw, ":")
	if !found {
		return address{}, &addressError{"the repository's address " + shown + " has no scheme", howToWrite}
	}
	switch strings.ToLower(scheme) {
	case "http", "https", "ftp":
		return parseNetwork(raw)
	case "obs":
		return parseBuildService(rest, buildService)
	case "obsrepositories":
		return address{}, &addressError{shown + " has a meaning inside of the Open Build Service only", "give the repository's address: https://..., or obs://PROJECT/REPOSITORY"}
	case "file", "dir":
		path, err := localAddress(rest, shown)
		return address{kind: directory, path: path}, err
	case "this":
		path, err := url.PathUnescape(strings.TrimLeft(rest, "/"))
		if err != nil {
			return address{}, &addressError{"the path in " + shown + " can't be read", "write a percent sign as %25"}
		}
		if path == "" {
			path = "."
		}
		return address{kind: directory, path: path}, nil
	case "iso":
		return parseImage(rest, shown)
	}
	return address{}, &addressError{"repositories can't be read from " + shown, howToWrite}
}

// parseNetwork understands http://USER:PASSWORD@HOST/PATH?credentials=FILE.
func parseNetwork(raw string) (address, *addressError) {
	shown := withoutSecrets(raw)
	u, err := url.Parse(raw)
	if err != nil {
		// What url.Parse says may have a part of the password in it.
		return address{}, &addressError{"the repository's address " + shown + " can't be read", "write special characters in it, as in a password, as percent signs with two digits: %40 is @"}
	}
	if u.Hostname() == "" {
		return address{}, &addressError{"the repository's address " + shown + " has no host name", howToWrite}
	}
	a := address{kind: network}
	if u.User != nil {
		a.user = u.User.Username()
		a.password, _ = u.User.Password()
	}
	// What is left of it stays as it was written: package managers have variables such as ${basearch}.
	_, rest, _ := strings.Cut(raw, "://")
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	host, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	host = host[strings.LastIndexByte(host, '@')+1:]
	a.uri = u.Scheme + "://" + host + path
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		switch {
		case name == "credentials":
			if a.credentials, err = url.QueryUnescape(value); err != nil || a.credentials == "" {
				return address{}, &addressError{"the name of the credentials file in " + shown + " can't be read", "write ?credentials=NAME"}
			}
		case part != "":
			kept = append(kept, part)
		}
	}
	if len(kept) > 0 {
		a.uri += "?" + strings.Join(kept, "&")
	}
	if strings.ContainsAny(a.uri, " \"'<>\\") || strings.ContainsFunc(a.uri, unicode.IsSpace) {
		return address{}, &addressError{"the repository's address " + shown + " has blanks or quotes in it", "write a blank as %20"}
	}
	if again, err := url.Parse(a.uri); err != nil || again.User != nil {
		return address{}, &addressError{"the repository's address " + shown + " can't be read", howToWrite}
	}
	return a, nil
}

// parseBuildService gives the address of a project's repository: its colons are folders on the server.
func parseBuildService(rest, base string) (address, *addressError) {
	name := strings.ReplaceAll(strings.Trim(rest, "/"), ":/", ":")
	project, repository, found := cutLast(name, "/")
	if !found || project == "" || repository == "" || strings.ContainsAny(name, "@?# \"'<>\\%") {
		return address{}, &addressError{"obs:" + rest + " doesn't name a project and a repository", "write obs://PROJECT/REPOSITORY, as in obs://openSUSE:Leap:15.6/standard"}
	}
	a, err := parseNetwork(strings.TrimSuffix(base, "/") + "/" + strings.ReplaceAll(project, ":", ":/") + "/" + repository)
	if err != nil {
		err.text = "the Open Build Service's address: " + err.text
	}
	return a, err
}

// localAddress is the path of file:/PATH, file:///PATH, file://localhost/PATH or, beside the description, file:PATH.
func localAddress(rest, shown string) (string, *addressError) {
	rest, _, _ = strings.Cut(rest, "?")
	path := rest
	if host, ok := strings.CutPrefix(rest, "//"); ok {
		name, after, _ := strings.Cut(host, "/")
		if name != "" && name != "localhost" {
			return "", &addressError{shown + " takes " + name + " for a host name", "write three slashes before an absolute path, as in file:///srv/repo, or this://" + host + " for one beside the description"}
		}
		path = "/" + after
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return "", &addressError{"the path in " + shown + " can't be read", "write a percent sign as %25"}
	}
	if path == "" {
		return "", &addressError{shown + " has no path", "write file:///path"}
	}
	return path, nil
}

// parseImage understands iso:///PATH and, as libzypp does, iso:/?iso=NAME&url=dir:/PATH.
func parseImage(rest, shown string) (address, *addressError) {
	before, query, found := strings.Cut(rest, "?")
	if !found {
		path, err := localAddress(rest, shown)
		return address{kind: image, path: path}, err
	}
	values, err := url.ParseQuery(query)
	if err != nil || values.Get("iso") == "" {
		return address{}, &addressError{shown + " names no ISO image", "write iso:///path/to/image.iso"}
	}
	folder := values.Get("url")
	if folder == "" {
		folder = before
	} else {
		scheme, path, _ := strings.Cut(folder, ":")
		if scheme != "dir" && scheme != "file" && scheme != "hd" {
			return address{}, &addressError{"the ISO image of " + shown + " is not on this machine", "fetch it, and write iso:///path/to/image.iso"}
		}
		folder = path
	}
	dir, fail := localAddress(folder, shown)
	if fail != nil {
		return address{}, fail
	}
	return address{kind: image, path: strings.TrimSuffix(dir, "/") + "/" + values.Get("iso")}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// userInfo is what stands for a user name and password in an address, also in one that can't be parsed: all up to the last @ of what may be the host's part.
var userInfo = regexp.MustCompile(`://[^/?#\s]*@`)

// brokenUserInfo is the same where the password has a slash in it, so that the address can't be parsed.
var brokenUserInfo = regexp.MustCompile(`://[^\s]*@`)

// withoutSecrets is an address fit for messages.
func withoutSecrets(address string) string {
	if u, err := url.Parse(address); err == nil && u.User == nil {
		return address
	}
	if short := userInfo.ReplaceAllString(address, "://"); short != address {
		return short
	}
	return brokenUserInfo.ReplaceAllString(address, "://")
}
