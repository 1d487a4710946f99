package database

import (
	"bufio"
	"bytes"
	"crypto"
	"fmt"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// checks are what of a file is compared. Their order is that of the letters in a line.
type checks uint16

const (
	checkSize checks = 1 << iota
	checkMode
	checkDigest
	checkDevice
	checkTarget
	checkUser
	checkGroup
	checkTime
	checkCaps
)

// letters are what a difference is shown as, in order of the checks (rpm(8), VERIFY OPTIONS).
const letters = "SM5DLUGTP"

// claim is what a package says of one of its files.
type claim struct {
	path      string
	attribute byte   // 'c' for a configuration file, 'd' for documentation, or a space
	mayMiss   bool   // that it is not there is fine
	checks    checks // what is compared
	unknown   bool   // what is not compared is shown as ? and not as equal
	dpkg      bool   // as dpkg does it: a symbolic link to the right file will do, and lines are a blank shorter

	mode, permMask uint32 // the mode, and which of its bits count
	size           int64
	digest         string // hexadecimal
	algorithm      crypto.Hash
	target         string
	major, minor   uint32
	user, group    string // names, or numbers
	mtime          int64
	caps           string
}

// owners knows the names of users and groups.
type owners struct {
	users, groups map[uint32]string
}

func newOwners(tree *layers.Tree) owners {
	return owners{readNames(tree, "etc/passwd"), readNames(tree, "etc/group")}
}

// readNames reads the names and numbers of a file such as /etc/passwd. root is always there.
func readNames(tree *layers.Tree, name string) map[uint32]string {
	names := map[uint32]string{0: "root"}
	const limit = 16 << 20
	data, err := tree.ReadFile(name, limit)
	if err != nil {
		return names
	}
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		parts := strings.Split(scan.Text(), ":")
		if len(parts) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(parts[2], 10, 32); err == nil && names[uint32(id)] == "" {
			names[uint32(id)] = parts[0]
		}
	}
	return names
}

// is reports whether the owner with this number is the one of that name, which may be a number.
func is(names map[uint32]string, id uint32, name string) bool {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n) == id
	}
	return names[id] == name
}

// verify compares a file with a claim and returns the line about it, "" if nothing differs.
func (s *Survey) verify(c claim, names owners) string {
	find := s.database.tree.ResolveParent
	if c.dpkg {
		find = s.database.tree.Resolve
	}
	_, node, err := find(c.path)
	if err != nil || node == nil || c.dpkg && !node.IsRegular() {
		if c.mayMiss {
			return ""
		}
		return fmt.Sprintf("missing   %c %s", c.attribute, "/"+c.path)
	}
	differ := s.compare(c, node, names)
	if differ == 0 {
		return ""
	}
	flags := []byte(letters)
	for i := range flags {
		bit := checks(1) << i
		switch {
		case differ&bit != 0:
		case c.checks&bit == 0 && c.unknown:
			flags[i] = '?'
		default:
			flags[i] = '.'
		}
	}
	gap := "  "
	if c.dpkg {
		gap = " "
	}
	return fmt.Sprintf("%s%s%c /%s", flags, gap, c.attribute, c.path)
}

// compare returns the checks in which a file differs from a claim.
func (s *Survey) compare(c claim, node *layers.Node, names owners) (differ checks) {
	regular := node.IsRegular()
	for _, one := range []struct {
		check checks
		equal bool
	}{
		{checkSize, regular && node.Size == c.size},
		{checkMode, (node.Mode^c.mode)&c.permMask == 0},
		{checkDigest, regular && c.digest != "" && s.hexSum(node, c.algorithm) == c.digest},
		{checkDevice, node.IsDevice() && node.Type() == c.mode&layers.TypeMask && node.Major == c.major && node.Minor == c.minor},
		{checkTarget, node.IsSymlink() && node.Target == c.target},
		{checkUser, is(names.users, node.UID, c.user)},
		{checkGroup, is(names.groups, node.GID, c.group)},
		{checkTime, node.MTime.Sec == c.mtime},
		{checkCaps, equalCaps(node, c.caps)},
	} {
		if c.checks&one.check != 0 && !one.equal {
			differ |= one.check
		}
	}
	return differ
}

// forType are the checks that make sense for a file that is of this type in the tree (as rpm's verification has it).
func forType(node *layers.Node) checks {
	all := checks(1)<<len(letters) - 1
	switch node.Type() {
	case layers.TypeRegular:
		return all &^ checkTarget &^ checkDevice
	case layers.TypeSymlink:
		return checkTarget | checkUser | checkGroup
	case layers.TypeChar, layers.TypeBlock:
		return checkMode | checkDevice | checkUser | checkGroup
	}
	return checkMode | checkUser | checkGroup
}
