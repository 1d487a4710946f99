package layers

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// parsePAX reads records of the form "LENGTH KEY=VALUE\n" (POSIX.1-2017, XCU pax, "pax Header Block"). The sparse map of form 0.0, which repeats its keys, is
// kept under one key as form 0.1 has it.
func parsePAX(text string) (map[string]string, error) {
	records := map[string]string{}
	var sparseMap []string
	for text != "" {
		digits, _, ok := strings.Cut(text, " ")
		length, err := strconv.Atoi(digits)
		if !ok || err != nil || length <= len(digits)+1 || length > len(text) || text[length-1] != '\n' {
			if strings.Trim(text, "\x00") == "" {
				break // padding that is counted in the size
			}
			return nil, errFormat("a pax record has a wrong length")
		}
		key, value, ok := strings.Cut(text[len(digits)+1:length-1], "=")
		text = text[length:]
		if !ok || key == "" {
			return nil, errFormat("a pax record has no key")
		}
		switch key {
		case "GNU.sparse.offset":
			if len(sparseMap)%2 != 0 {
				return nil, errFormat("the sparse map lacks a length")
			}
			sparseMap = append(sparseMap, value)
		case "GNU.sparse.numbytes":
			if len(sparseMap)%2 != 1 {
				return nil, errFormat("the sparse map lacks an offset")
			}
			sparseMap = append(sparseMap, value)
		default:
			records[key] = value
		}
	}
	if len(sparseMap) > 0 {
		records["GNU.sparse.map"] = strings.Join(sparseMap, ",")
	}
	return records, nil
}

// paxSparse is what pax records say about a sparse file.
type paxSparse struct {
	major, minor string
	list         string // the map of forms 0.0 and 0.1
	count        string
	size         string
}

// applyPAX puts the records of an extended header into h. It returns what they say about a sparse file, nil if it is none.
func applyPAX(h *foundEntry, records map[string]string) (*paxSparse, error) {
	var sparse *paxSparse
	for key, value := range records {
		if rest, ok := strings.CutPrefix(key, "GNU.sparse."); ok {
			if sparse == nil {
				sparse = &paxSparse{}
			}
			sparse.set(rest, value)
			continue
		}
		if key == paxDataMap {
			h.dataMap = &value
			continue
		}
		if value == "" {
			continue
		}
		if err := h.applyRecord(key, value); err != nil {
			return nil, err
		}
	}
	if err := h.applyXattrs(records); err != nil {
		return nil, err
	}
	if sparse != nil && (h.typ == '0' || h.typ == 0) {
		if name := records["GNU.sparse.name"]; name != "" {
			h.name = name // what is in "path" is for programs that know no sparse files
		}
		return sparse, nil
	}
	return nil, nil
}

func (s *paxSparse) set(key, value string) {
	switch key {
	case "major":
		s.major = value
	case "minor":
		s.minor = value
	case "map":
		s.list = value
	case "numblocks":
		s.count = value
	case "size", "realsize":
		s.size = value
	}
}

func (h *foundEntry) applyRecord(key, value string) (err error) {
	switch key {
	case "path":
		h.name = value
	case "linkpath":
		h.link = value
	case "uid":
		h.uid, err = strconv.ParseInt(value, 10, 64)
	case "gid":
		h.gid, err = strconv.ParseInt(value, 10, 64)
	case "size":
		h.size, err = strconv.ParseInt(value, 10, 64)
	case "mtime":
		h.mtime, err = parsePAXTime(value)
	case "SCHILY.devmajor":
		h.major, err = strconv.ParseInt(value, 10, 64)
	case "SCHILY.devminor":
		h.minor, err = strconv.ParseInt(value, 10, 64)
	}
	if err != nil {
		return errFormat(fmt.Sprintf("the pax record %s=%.40q is wrong", key, value))
	}
	return nil
}

// parsePAXTime reads seconds since 1970 with a fraction, possibly negative.
func parsePAXTime(s string) (Timespec, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return Timespec{}, err
	}
	var nsec int64
	if fraction != "" {
		digits := (fraction + "000000000")[:9]
		if strings.Trim(fraction, "0123456789") != "" {
			return Timespec{}, strconv.ErrSyntax
		}
		if nsec, err = strconv.ParseInt(digits, 10, 64); err != nil {
			return Timespec{}, err
		}
	}
	if strings.HasPrefix(whole, "-") && nsec > 0 {
		sec, nsec = sec-1, 1e9-nsec
	}
	return Timespec{sec, uint32(nsec)}, nil
}

// The prefixes of the records that hold extended attributes. star, GNU tar and Go write the first, with the value's plain bytes; libarchive writes
// the second as well, with the name in percent encoding and the value in base64.
const (
	xattrPrefix           = "SCHILY.xattr."
	xattrPrefixLibarchive = "LIBARCHIVE.xattr."

	paxSELinux   = "RHT.security.selinux" // GNU tar's record for the label alone
	xattrSELinux = "security.selinux"
)

// Limits of Linux, limits.h.
const (
	maxXattrName  = 255
	maxXattrValue = 65536
	maxXattrList  = 65536
	maxNameLength = 255
	maxPathLength = 4095
)

// unescapeXattr takes back GNU tar's two escapes in names of attributes.
func unescapeXattr(name string) string {
	if !strings.Contains(name, "%") {
		return name
	}
	return strings.NewReplacer("%3D", "=", "%25", "%").Replace(name)
}

func (h *foundEntry) applyXattrs(records map[string]string) error {
	var found map[string]string
	keep := func(name, value string) {
		if found == nil {
			found = map[string]string{}
		}
		found[name] = value
	}
	for key, value := range records {
		if rest, ok := strings.CutPrefix(key, xattrPrefixLibarchive); ok {
			name, err := url.PathUnescape(rest)
			if err != nil {
				return errFormat(fmt.Sprintf("the pax record %.80q has a name in a wrong encoding", key))
			}
			plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return errFormat(fmt.Sprintf("the pax record %.80q is not base64", key))
			}
			keep(name, string(plain))
		}
	}
	for key, value := range records {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			keep(unescapeXattr(name), value)
		}
	}
	if label, ok := records[paxSELinux]; ok && found[xattrSELinux] == "" {
		keep(xattrSELinux, label)
	}
	if len(found) == 0 {
		return nil
	}
	sum := 0
	for name, value := range found {
		if name == "" || len(name) > maxXattrName || len(value) > maxXattrValue || strings.Contains(name, "\x00") {
			return errHostile(fmt.Sprintf("the extended attribute %.80q is longer than Linux allows", name))
		}
		if sum += len(name) + 1; sum > maxXattrList {
			return errHostile("it has more extended attributes than Linux allows")
		}
		h.xattrs = append(h.xattrs, Xattr{name, value})
	}
	slices.SortFunc(h.xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
