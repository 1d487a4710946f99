package reference

import "strings"

// Suggest makes a name from name that CheckName accepts, as like it as possible.
func Suggest(name string) string {
	domain, repository := splitDomain(name)
	if domain != "" && checkDomain(domain, domain, 0) != nil {
		domain, repository = "", name
	}
	var parts []string
	for part := range strings.SplitSeq(repository, "/") {
		if good := suggestComponent(part); good != "" {
			parts = append(parts, good)
		}
	}
	good := strings.Join(parts, "/")
	if domain != "" {
		good = domain + "/" + good
	}
	if len(good) > maxNameLength {
		good = strings.TrimRight(good[:maxNameLength], "._-/")
	}
	if isLongID(good) {
		good = good[:12]
	}
	if checkName(good) != nil {
		return "image"
	}
	return good
}

// suggestComponent makes one part between slashes of s: small letters, every forbidden run one '-', nothing but letters
// and digits at the ends.
func suggestComponent(s string) string {
	var b strings.Builder
	separators := ""
	for _, c := range strings.ToLower(s) {
		if c < 0x80 && isAlnum(byte(c)) {
			if b.Len() > 0 {
				b.WriteString(suggestSeparator(separators))
			}
			separators = ""
			b.WriteRune(c)
			continue
		}
		separators += string(c)
	}
	return b.String()
}

func suggestSeparator(s string) string {
	switch {
	case s == "" || s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == "":
		return s
	case strings.Trim(s, "_") == "":
		return "__"
	case strings.Trim(s, ".") == "":
		return "."
	}
	return "-"
}

func suggestTag(tag string) string {
	var b strings.Builder
	for _, c := range tag {
		switch {
		case c < 0x80 && (isAlnum(byte(c)) || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '-'):
			b.WriteRune(c)
		default:
			b.WriteByte('-')
		}
	}
	good := strings.TrimLeft(b.String(), ".-")
	good = good[:min(len(good), maxTagLength)]
	if good == "" {
		return DefaultTag
	}
	return good
}

// suggestReference makes a whole name with tag and digest from s; it is empty if no
// good one is near.
func suggestReference(s string) string {
	name, digest, hasDigest := strings.Cut(s, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.ContainsAny(name[i:], "/]") {
		name, tag = name[:i], ":"+suggestTag(name[i+1:])
	}
	good := Suggest(name)
	switch Transport(good) {
	case OCI, OCIArchive, DockerArchive, Dir, ContainersStorage:
		if tag != "" {
			return "" // Together they would be a transport and a path.
		}
	}
	good += tag
	if hasDigest {
		if checkDigest(digest, digest, 0) != nil {
			return ""
		}
		good += "@" + digest
	}
	return good
}

func isAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func notHex(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }

// isLongID reports whether s looks like the full id of an image, which Docker and podman take for one.
func isLongID(s string) bool { return len(s) == 64 && strings.IndexFunc(s, notHex) < 0 }
