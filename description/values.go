package description

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// valueRule says which values an attribute or a text may have. A value is
// compared after white space has been collapsed, except for free text.
type valueRule struct {
	Kind valueKind
	Enum []string       // for kindEnum
	Re   *regexp.Regexp // for kindPattern
	Want string         // what is expected, in words, for errors and the reference
	Min  int64          // for kindInteger
	// Since and Until bound single values of an Enum to schema versions.
	Since map[string]version
	Until map[string]version
}

// known returns the values of an enumeration in a schema version.
func (v *valueRule) known(at version) []string {
	var values []string
	for _, value := range v.Enum {
		if inVersion(at, v.Since[value], v.Until[value]) {
			values = append(values, value)
		}
	}
	return values
}

// want says in words what is expected in a schema version.
func (v *valueRule) want(at version) string {
	if v.Kind == kindEnum {
		return "one of " + strings.Join(v.known(at), ", ")
	}
	return v.Want
}

// since and until return the enumeration with single values bounded.
func (v *valueRule) since(at version, values ...string) *valueRule {
	return v.bounded(func(c *valueRule, value string) { c.Since[value] = at }, values)
}

func (v *valueRule) until(at version, values ...string) *valueRule {
	return v.bounded(func(c *valueRule, value string) { c.Until[value] = at }, values)
}

func (v *valueRule) bounded(bound func(*valueRule, string), values []string) *valueRule {
	c := *v
	c.Since, c.Until = map[string]version{}, map[string]version{}
	for value, at := range v.Since {
		c.Since[value] = at
	}
	for value, at := range v.Until {
		c.Until[value] = at
	}
	for _, value := range values {
		bound(&c, value)
	}
	return &c
}

type valueKind uint8

const (
	kindText valueKind = iota
	kindBool
	kindInteger
	kindEnum
	kindPattern
)

// maxNumber bounds all numbers, so that sums of sizes in bytes can't overflow.
const maxNumber = 1 << 40

// The kinds of value of the language.
var (
	text     = &valueRule{Kind: kindText, Want: "text"}
	boolean  = &valueRule{Kind: kindBool, Want: "true or false"}
	number   = &valueRule{Kind: kindInteger, Want: "a number from 0"}
	integer  = &valueRule{Kind: kindInteger, Want: "a whole number", Min: -1 << 62}
	sector   = &valueRule{Kind: kindInteger, Want: "a number from 2048", Min: 2048}
	safeName = pattern(`[a-zA-Z0-9_\-.]+`, "a name of letters, digits, '_', '-' and '.'")
	// shortName is for labels that a partition table or an ISO header holds.
	shortName  = pattern(`[a-zA-Z0-9_\-.]{1,32}`, "a name of at most 32 letters, digits, '_', '-' and '.'")
	isoText    = pattern(`[a-zA-Z0-9!-/:-?_ ]{1,128}`, "at most 128 letters, digits, spaces and !\"%&'()*+,-./:;<=>?_")
	localeList = pattern(`(POSIX|[a-z]{2,3}_[A-Z]{2})(,[a-z]{2,3}_[A-Z]{2})*`, "xx_YY or POSIX without an encoding, several with commas between")
	macAddress = pattern(`([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}`, "six pairs of hexadecimal digits with colons between")
	cloneCount = pattern(`\d+`, "a number")
	blockCount = pattern(`(\d*|all)`, "a number of blocks, or all")
	volumeSize = pattern(`(\d+|\d+M|\d+G|all)`, "a number of MiB, or a number with M or G, or all")
	partSize   = pattern(`(\d+|\d+M|\d+G)`, "a number of MiB, or a number with M or G")
	vhdTag     = pattern(`[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}`, "a UUID in small letters")
	groupList  = pattern(`[a-zA-Z0-9_\-.:]+(,[a-zA-Z0-9_\-.:]+)*`, "group names with commas between, each with :GID if wanted")
	archList   = pattern(archName+`(,`+archName+`)*`, "names of architectures such as x86_64 or aarch64, with commas between")
	portNumber = pattern(`\d+(/(udp|tcp))?`, "a port number, with /tcp or /udp if wanted")
	oldConsole = pattern(`(none|console|gfxterm|serial|vga_text|mda_text|morse|spkmodem)( (none|console|serial|at_keyboard|usb_keyboard))*`, "names of GRUB terminals with blanks between, such as: serial console")
	// oldestConsole is that of schemas up to 7.6.
	oldestConsole = pattern(`(console|gfxterm|serial)( (console|gfxterm|serial))*`, "console, gfxterm, serial, or several with blanks between")
	fsAttrs       = pattern(`(no-copy-on-write|synchronous-updates)(,(no-copy-on-write|synchronous-updates))*`, "no-copy-on-write, synchronous-updates, or both with a comma between")
	packageVer    = pattern(versionPart+`(\.`+versionPart+`){3}`, "four numbers up to 65535 with dots between")
	keyURI        = pattern(`(file:|https:|http:|ftp:|/).*`, "a file:, http:, https: or ftp: URI or an absolute path")
	octal         = pattern(`[0-7]{3,4}`, "an octal mode such as 0644")
	ownerName     = pattern(`[a-zA-Z0-9_\-.]+(:[a-zA-Z0-9_\-.]+)?`, "a user name, with :group if wanted")
	uuidOrShort   = pattern(`[0-9a-fA-F-]{1,36}`, "a UUID")
)

// versionPart is a number up to 65535 without leading zeros.
const versionPart = `(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`

const archName = `(x86_64|i586|i686|ix86|aarch64|arm64|amd64|armv5el|armv5tel|armv6hl|armv6l|armv7hl|armv7l|ppc|ppc64|ppc64le|riscv64|s390|s390x)`

func pattern(re, want string) *valueRule {
	return &valueRule{Kind: kindPattern, Re: regexp.MustCompile(`^(?:` + re + `)$`), Want: want}
}

func oneOf(values ...string) *valueRule {
	return &valueRule{Kind: kindEnum, Enum: values}
}

// collapse removes white space as XML Schema's token type does.
func collapse(s string) string { return strings.Join(strings.Fields(s), " ") }

// check returns "" for a good value and else what is wrong with it, and a
// remedy.
func (v *valueRule) check(value string, at version) (problem, hint string) {
	if v.Kind == kindText {
		return "", ""
	}
	token := collapse(value)
	expected := "expected is " + v.want(at)
	switch v.Kind {
	case kindBool:
		if _, ok := parseBool(token); !ok {
			return fmt.Sprintf("value %q is neither true nor false", value), expected
		}
	case kindInteger:
		n, err := strconv.ParseInt(token, 10, 64)
		if err != nil || n < v.Min || n > maxNumber {
			return fmt.Sprintf("value %q is not allowed", value), expected
		}
	case kindEnum:
		known := v.known(at)
		switch {
		case contains(known, token):
		case contains(v.Enum, token):
			return fmt.Sprintf("value %q does not exist in schema %s", value, at), versionHint(v.Since[token], v.Until[token])
		default:
			return fmt.Sprintf("value %q is not known", value), DidYouMean(token, known, expected)
		}
	case kindPattern:
		if !v.Re.MatchString(token) {
			return fmt.Sprintf("value %q is not allowed", value), expected
		}
	}
	return "", ""
}

// parseBool reads XML Schema's boolean.
func parseBool(s string) (value, ok bool) {
	switch s {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	return false, false
}

// parseMiB reads a size: a number of MiB, or a number with M or G.
func parseMiB(s string) (int, error) {
	unit := 1
	digits := s
	switch {
	case strings.HasSuffix(s, "G"):
		unit, digits = 1024, strings.TrimSuffix(s, "G")
	case strings.HasSuffix(s, "M"):
		digits = strings.TrimSuffix(s, "M")
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || int64(n) > maxNumber/int64(unit) {
		return 0, fmt.Errorf("size %q is not a number of MiB, or a number with M or G", s)
	}
	return n * unit, nil
}

// DidYouMean suggests the nearest of the known names, as a question, or returns
// fallback where none is near.
func DidYouMean(name string, known []string, fallback string) string {
	best, bestDistance := "", max(1, len(name)/3)
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return fallback
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance counts the insertions, deletions, changes and swaps of
// neighbours that turn a into b.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
