package reference

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	// The digest algorithms that a reference may use register themselves.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

// Error says what is wrong with a name.
type Error struct {
	// Input is the text as the user gave it.
	Input string
	// Part is the part of it that is wrong: repository, tag, digest, registry ...
	Part string
	// Offset is the byte of Input where the bad character begins, or -1 if no single character is at fault.
	Offset int
	// Reason is what the rule says.
	Reason string
	// Suggestion is a name that would be good, or empty.
	Suggestion string
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "reading name %q: ", e.Input)
	if e.Offset >= 0 && e.Offset < len(e.Input) {
		_, size := utf8.DecodeRuneInString(e.Input[e.Offset:])
		fmt.Fprintf(&b, "character %d, %s, of the %s is wrong: ", utf8.RuneCountInString(e.Input[:e.Offset])+1,
			strconv.Quote(e.Input[e.Offset:e.Offset+size]), e.Part)
	} else {
		fmt.Fprintf(&b, "the %s is wrong: ", e.Part)
	}
	b.WriteString(e.Reason)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, "; %q would do", e.Suggestion)
	}
	return b.String()
}

func badRune(input, part string, offset int, reason string) *Error {
	return &Error{Input: input, Part: part, Offset: offset, Reason: reason}
}

// withSuggestion adds a better name to err, unless the name is no better.
func withSuggestion(err error, name string) error {
	var e *Error
	if errors.As(err, &e) && name != "" && name != e.Input {
		e.Suggestion = name
	}
	return err
}

// CheckName reports whether name is a container's name without tag: [DOMAIN/]REPOSITORY. The error is an *Error and
// suggests a good name.
func CheckName(name string) error { return withSuggestion(checkName(name), Suggest(name)) }

func checkName(name string) error {
	domain, repository := splitDomain(name)
	at := 0
	if domain != "" {
		if err := checkDomain(name, domain, 0); err != nil {
			return err
		}
		at = len(domain) + 1
	}
	if err := checkRepository(name, repository, at); err != nil {
		return err
	}
	if len(name) > maxNameLength {
		return &Error{Input: name, Part: "name", Offset: -1, Reason: "it is longer than 255 bytes"}
	}
	if domain == "" && isLongID(name) {
		return &Error{Input: name, Part: "name", Offset: -1, Reason: "64 hexadecimal digits are an image id and no name"}
	}
	return nil
}

// CheckTag reports whether tag is a tag. The error is an *Error and suggests a good one.
func CheckTag(tag string) error {
	return withSuggestion(checkTag(tag, tag, 0), suggestTag(tag))
}

// checkRepository checks the grammar
//
//	[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
//
// of the distribution specification; s begins at byte at of input.
func checkRepository(input, s string, at int) error {
	if s == "" {
		return &Error{Input: input, Part: "repository", Offset: -1, Reason: "it is empty"}
	}
	for start := 0; start <= len(s); {
		end := strings.IndexByte(s[start:], '/')
		if end < 0 {
			end = len(s)
		} else {
			end += start
		}
		if err := checkComponent(input, s[start:end], at+start); err != nil {
			return err
		}
		start = end + 1
	}
	return nil
}

func checkComponent(input, c string, at int) error {
	if c == "" {
		return badRune(input, "repository", min(at, len(input)-1), "each part between slashes needs a letter or digit")
	}
	for i := 0; i < len(c); {
		if isAlnum(c[i]) {
			i++
			continue
		}
		run := i
		for run < len(c) && strings.IndexByte("._-", c[run]) >= 0 {
			run++
		}
		separators := c[i:run]
		switch {
		case separators == "" && c[i] >= 'A' && c[i] <= 'Z':
			return badRune(input, "repository", at+i, "capital letters aren't allowed, only a-z, 0-9 and . _ - / between them")
		case separators == "":
			return badRune(input, "repository", at+i, "only a-z, 0-9 and . _ - / between them are allowed")
		case i == 0:
			return badRune(input, "repository", at+i, "each part between slashes begins with a letter or digit")
		case run == len(c):
			return badRune(input, "repository", at+run-1, "each part between slashes ends with a letter or digit")
		case separators != "." && separators != "_" && separators != "__" && strings.Trim(separators, "-") != "":
			return badRune(input, "repository", at+i+1, "between letters and digits stands one '.', one or two '_' or any number of '-'")
		}
		i = run
	}
	return nil
}

// checkTag checks [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func checkTag(input, s string, at int) error {
	if s == "" {
		return &Error{Input: input, Part: "tag", Offset: -1, Reason: "it is empty"}
	}
	for i := 0; i < len(s); i++ {
		switch {
		case isAlnum(s[i]) || s[i] >= 'A' && s[i] <= 'Z' || s[i] == '_':
		case s[i] == '.' || s[i] == '-':
			if i == 0 {
				return badRune(input, "tag", at, "a tag begins with a letter, a digit or '_'")
			}
		default:
			return badRune(input, "tag", at+i, "only letters, digits and . _ - are allowed")
		}
	}
	if len(s) > maxTagLength {
		return &Error{Input: input, Part: "tag", Offset: -1, Reason: "it is longer than 128 bytes"}
	}
	return nil
}

// checkDigest checks ALGORITHM:HEX for the algorithms that registries use.
func checkDigest(input, s string, at int) error {
	algorithm, hex, found := strings.Cut(s, ":")
	if !found {
		return &Error{Input: input, Part: "digest", Offset: -1, Reason: "after @ comes sha256: and 64 hexadecimal digits"}
	}
	var size int
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		size = 64
	case digest.SHA512:
		size = 128
	default:
		return &Error{Input: input, Part: "digest", Offset: -1, Reason: fmt.Sprintf("%q is no known algorithm; sha256 and sha512 are", algorithm)}
	}
	if i := strings.IndexFunc(hex, notHex); i >= 0 {
		return badRune(input, "digest", at+len(algorithm)+1+i, "only the digits 0-9 and a-f are allowed")
	}
	if len(hex) != size {
		return &Error{Input: input, Part: "digest", Offset: -1,
			Reason: fmt.Sprintf("%s has %d hexadecimal digits, not %d", algorithm, size, len(hex))}
	}
	return nil
}

// checkDomain checks HOST[:PORT] where HOST is a DNS name, an IPv4 address or an IPv6 address in brackets.
func checkDomain(input, s string, at int) error {
	host, port, hasPort := s, "", false
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return badRune(input, "registry", at, "the bracket is never closed")
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return &Error{Input: input, Part: "registry", Offset: -1, Reason: "in brackets there must be an IPv6 address, such as [::1]:5000"}
		}
		host = ""
		if end+1 < len(s) {
			if s[end+1] != ':' {
				return badRune(input, "registry", at+end+1, "after an IPv6 address there may only be a colon and a port")
			}
			port, hasPort = s[end+2:], true
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port, hasPort = s[:i], s[i+1:], true
		if j := strings.IndexByte(port, ':'); j >= 0 {
			return badRune(input, "registry", at+i+1+j, "a registry has one port, and an IPv6 address stands in brackets")
		}
		if host == "" {
			return badRune(input, "registry", at, "there is no host before the port")
		}
	}
	if hasPort {
		if err := checkPort(input, port, at+len(s)-len(port)); err != nil {
			return err
		}
	}
	if strings.HasPrefix(s, "[") {
		return nil
	}
	return checkHost(input, host, at)
}

func checkPort(input, port string, at int) error {
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return badRune(input, "registry", at+i, "a port is a number")
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || len(port) > 5 {
		return &Error{Input: input, Part: "registry", Offset: -1, Reason: "a port is a number from 1 to 65535"}
	}
	return nil
}

func checkHost(input, host string, at int) error {
	if host == "" {
		return &Error{Input: input, Part: "registry", Offset: -1, Reason: "it is empty"}
	}
	for i := 0; i < len(host); i++ {
		c := host[i]
		switch {
		case isAlnum(c) || c >= 'A' && c <= 'Z':
		case c == '.' || c == '-':
			edge := i == 0 || i == len(host)-1 || host[i-1] == '.' || c == '.' && host[i-1] == '-'
			if edge {
				return badRune(input, "registry", at+i, "each part of a host name begins and ends with a letter or digit")
			}
		default:
			return badRune(input, "registry", at+i, "a host name has only letters, digits, '-' and '.'")
		}
	}
	return nil
}
