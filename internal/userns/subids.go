package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// wantedIDs is how many subordinate ids a root tree needs: its ids go from 0 to 65535, nobody and nogroup included.
const wantedIDs = 65536

// idRange is count ids from first on, as the machine sees them.
type idRange struct{ first, count uint64 }

// idMaps are the subordinate ids of a user.
type idMaps struct{ uids, gids []idRange }

// findMaps reads the subordinate ids of the user who runs this process.
func findMaps() (idMaps, error) {
	names := userNames()
	var m idMaps
	for _, one := range []struct {
		file, flag string
		ranges     *[]idRange
	}{{"/etc/subuid", "", &m.uids}, {"/etc/subgid", "-g", &m.gids}} {
		text, err := os.ReadFile(one.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return idMaps{}, fmt.Errorf("reading subordinate ids: %w", err)
		}
		*one.ranges = parseRanges(string(text), names)
		if len(*one.ranges) == 0 {
			*one.ranges = askDirectory(one.flag, names[0])
		}
		if total(*one.ranges) < wantedIDs-1 {
			return idMaps{}, tooFew(one.file, names[0], string(text), total(*one.ranges))
		}
	}
	return m, nil
}

// parseRanges returns the ranges of a subuid(5) file that belong to one of the names. Lines that it can't read are left out, as newuidmap does.
func parseRanges(text string, names []string) []idRange {
	var ranges []idRange
	for line := range strings.Lines(text) {
		if r, owner, ok := parseRange(line); ok && slices.Contains(names, owner) && !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

func parseRange(line string) (r idRange, owner string, ok bool) {
	fields := strings.Split(strings.TrimSpace(line), ":")
	if len(fields) != 3 {
		return idRange{}, "", false
	}
	first, err1 := strconv.ParseUint(fields[1], 10, 32)
	count, err2 := strconv.ParseUint(fields[2], 10, 32)
	if err1 != nil || err2 != nil || count == 0 || first == 0 || first+count > 1<<32-1 {
		return idRange{}, "", false
	}
	return idRange{first, count}, fields[0], true
}

func total(ranges []idRange) uint64 {
	var sum uint64
	for _, r := range ranges {
		sum += r.count
	}
	return sum
}

// askDirectory asks for ids that come from a network directory (nsswitch.conf's subid line). No answer means none.
func askDirectory(flag, name string) []idRange {
	args := []string{name}
	if flag != "" {
		args = []string{flag, name}
	}
	out, err := exec.Command("getsubids", args...).Output()
	if err != nil {
		return nil
	}
	return parseDirectory(string(out), name)
}

// parseDirectory reads getsubids(1)'s lines, such as "0: tester 100000 65536".
func parseDirectory(text, name string) []idRange {
	var ranges []idRange
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == name {
			if r, _, ok := parseRange(strings.Join(fields[1:], ":")); ok {
				ranges = append(ranges, r)
			}
		}
	}
	return ranges
}

// tooFew is the error of a user without enough subordinate ids. It names the line to add, with a range that nobody has yet.
func tooFew(file, name, text string, have uint64) error {
	free := uint64(100000)
	for line := range strings.Lines(text) {
		if r, _, ok := parseRange(line); ok {
			free = max(free, r.first+r.count)
		}
	}
	has := "no subordinate ids"
	if have > 0 {
		has = fmt.Sprintf("only %d subordinate ids of %d needed", have, wantedIDs)
	}
	return &Error{Text: fmt.Sprintf("user %s has %s in %s; as root, add this line to it: %s:%d:%d (or run imgbuild as root)",
		name, has, file, name, free, wantedIDs)}
}
