// Package reference reads the names of containers as users write them.
//
// A name is short (leap:15.3), or says its registry (registry.example.org/a/b:tag@sha256:...), or says with a transport
// prefix where the container lies (docker://, oci:, oci-archive:, docker-archive:, dir:, containers-storage:). The
// grammar of names, tags and digests is that of the OCI distribution specification 1.1, "Pulling manifests", with the
// host part and the total length as Docker has them; the transports are those of containers-transports(5).
package reference

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Transport says where the container of a reference lies.
type Transport string

// The transports of containers-transports(5) that imgbuild knows.
const (
	// None is a name without a prefix: short, or with a registry.
	None Transport = ""
	// Docker is a registry that speaks the distribution protocol: docker://registry.example.org/a/b:tag.
	Docker Transport = "docker"
	// OCI is an OCI image layout in a directory: oci:DIR[:REF].
	OCI Transport = "oci"
	// OCIArchive is an OCI image layout in a tar file: oci-archive:FILE[:REF].
	OCIArchive Transport = "oci-archive"
	// DockerArchive is the tar file of docker save: docker-archive:FILE[:REF].
	DockerArchive Transport = "docker-archive"
	// Dir is skopeo's directory with a manifest and plain blob files: dir:DIR.
	Dir Transport = "dir"
	// ContainersStorage is podman's local storage: containers-storage:NAME.
	ContainersStorage Transport = "containers-storage"
)

const (
	// DefaultTag is the tag that a name without tag and digest means.
	DefaultTag = "latest"
	// DockerHub is the domain of Docker Hub in its usual spelling.
	DockerHub = "docker.io"
	// maxNameLength bounds domain and repository together, in bytes, as Docker does.
	maxNameLength = 255
	// maxTagLength bounds a tag, in bytes (distribution specification).
	maxTagLength = 128
)

// Reference is one container's name, taken apart. The zero value names nothing.
type Reference struct {
	Transport Transport
	// Domain is the registry's HOST[:PORT]; empty in a short name and where the transport has no registry.
	Domain string
	// Repository is the path below the registry, such as opensuse/leap.
	Repository string
	// Tag is empty when none was given; see WithDefaultTag.
	Tag string
	// Digest is empty when none was given. When there is one, it counts and the tag only informs.
	Digest digest.Digest
	// Path is the directory or file of oci, oci-archive, docker-archive and dir, and the store in brackets of
	// containers-storage:[overlay@/path+/run]name, without the brackets.
	Path string
	// Image says which container within Path is meant: the REF of oci:DIR:REF, or the id of containers-storage:@ID.
	// Empty means the only one.
	Image string
}

// Parse takes s apart. Errors are *Error.
//
// A transport prefix wins over a name of the same spelling, so oci:latest is a layout in the directory "latest"; only
// docker: needs its two slashes, because docker:27 is a well-known container.
func Parse(s string) (Reference, error) {
	prefix, rest, found := strings.Cut(s, ":")
	if found {
		at := len(prefix) + 1
		switch t := Transport(prefix); t {
		case OCI, OCIArchive, DockerArchive:
			return parsePath(s, t, rest, at)
		case Dir:
			if rest == "" {
				return Reference{}, &Error{Input: s, Part: "path", Offset: -1, Reason: "there is no directory after dir:"}
			}
			return Reference{Transport: Dir, Path: rest}, nil
		case ContainersStorage:
			return parseStorage(s, rest, at)
		case Docker:
			if name, ok := strings.CutPrefix(rest, "//"); ok {
				r, err := parseName(s, name, at+2)
				if err != nil {
					return Reference{}, err
				}
				r.Transport = Docker
				if r.Domain == "" {
					r.Domain = DockerHub
				}
				return r.normalized(), nil
			}
		case "http", "https":
			if name, ok := strings.CutPrefix(rest, "//"); ok {
				return Reference{}, &Error{Input: s, Part: "reference", Offset: -1, Suggestion: suggestReference(name),
					Reason: "a reference has no " + prefix + "://"}
			}
		case "docker-daemon":
			return Reference{}, &Error{Input: s, Part: "transport", Offset: -1,
				Reason: "the Docker daemon isn't read; save the container with docker save -o FILE and use docker-archive:FILE"}
		}
	}
	r, err := parseName(s, s, 0)
	if err != nil {
		return Reference{}, err
	}
	return r.normalized(), nil
}

// parsePath reads PATH[:REF], which begins at byte at of input. As in skopeo the first colon ends the path.
func parsePath(input string, t Transport, rest string, at int) (Reference, error) {
	path, image, found := strings.Cut(rest, ":")
	what := "file"
	if t == OCI {
		what = "directory"
	}
	if path == "" {
		return Reference{}, &Error{Input: input, Part: "path", Offset: -1, Reason: "there is no " + what + " after " + string(t) + ":"}
	}
	if found && image == "" {
		return Reference{}, &Error{Input: input, Part: "path", Offset: at + len(path), Reason: "nothing follows the colon after the " + what,
			Suggestion: strings.TrimSuffix(input, ":")}
	}
	if i := strings.IndexFunc(image, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		return Reference{}, badRune(input, "name in the "+what, at+len(path)+1+i, "blanks and control characters can't be part of it")
	}
	return Reference{Transport: t, Path: path, Image: image}, nil
}

// parseStorage reads [STORE]NAME or [STORE]@ID.
func parseStorage(input, rest string, at int) (Reference, error) {
	r := Reference{Transport: ContainersStorage}
	if strings.HasPrefix(rest, "[") {
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return Reference{}, &Error{Input: input, Part: "store", Offset: at, Reason: "the bracket is never closed"}
		}
		if end == 1 {
			return Reference{}, &Error{Input: input, Part: "store", Offset: at, Reason: "the brackets are empty"}
		}
		r.Path, rest, at = rest[1:end], rest[end+1:], at+end+1
	}
	id, isID := strings.CutPrefix(rest, "@")
	if isID || isLongID(rest) {
		if i := strings.IndexFunc(id, notHex); i >= 0 || id == "" {
			return Reference{}, &Error{Input: input, Part: "image id", Offset: -1, Reason: "an id after @ has only the digits 0-9 and a-f"}
		}
		r.Image = id
		return r, nil
	}
	n, err := parseName(input, rest, at)
	if err != nil {
		return Reference{}, err
	}
	n = n.normalized()
	n.Transport, n.Path = r.Transport, r.Path
	return n, nil
}

// parseName reads [DOMAIN/]REPOSITORY[:TAG][@DIGEST], which begins at byte at of input.
func parseName(input, s string, at int) (Reference, error) {
	var r Reference
	if s == "" {
		return r, &Error{Input: input, Part: "reference", Offset: -1, Reason: "it is empty"}
	}
	name := s
	if i := strings.IndexByte(s, '@'); i >= 0 {
		name = s[:i]
		if err := checkDigest(input, s[i+1:], at+i+1); err != nil {
			return Reference{}, err
		}
		r.Digest = digest.Digest(s[i+1:])
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.ContainsAny(name[i:], "/]") {
		if err := checkTag(input, name[i+1:], at+i+1); err != nil {
			return Reference{}, withSuggestion(err, suggestReference(s))
		}
		name, r.Tag = name[:i], name[i+1:]
	}
	domain, repository := splitDomain(name)
	if domain != "" {
		if err := checkDomain(input, domain, at); err != nil {
			return Reference{}, err
		}
		r.Domain = domain
		at += len(domain) + 1
	}
	if err := checkRepository(input, repository, at); err != nil {
		return Reference{}, withSuggestion(err, suggestReference(s))
	}
	if len(name) > maxNameLength {
		return Reference{}, &Error{Input: input, Part: "name", Offset: -1, Reason: "it is longer than 255 bytes"}
	}
	if domain == "" && r.Tag == "" && isLongID(repository) {
		return Reference{}, &Error{Input: input, Part: "name", Offset: -1, Suggestion: "containers-storage:@" + repository,
			Reason: "64 hexadecimal digits are an image id and no name"}
	}
	r.Repository = repository
	return r, nil
}

// splitDomain parts the registry from the repository. The first component is a registry when it can't be part of a
// repository or is "localhost", as Docker has it.
func splitDomain(name string) (domain, repository string) {
	first, rest, found := strings.Cut(name, "/")
	if found && (first == "localhost" || strings.ContainsAny(first, ".:[")) {
		return first, rest
	}
	return "", name
}

// normalized gives Docker Hub its one spelling: docker.io/library/debian for index.docker.io/debian.
func (r Reference) normalized() Reference {
	switch r.Domain {
	case "index.docker.io", "registry-1.docker.io":
		r.Domain = DockerHub
	}
	if r.Domain == DockerHub && !strings.Contains(r.Repository, "/") {
		r.Repository = "library/" + r.Repository
	}
	return r
}

// String writes r so that Parse reads the same reference again.
func (r Reference) String() string {
	var b strings.Builder
	switch r.Transport {
	case OCI, OCIArchive, DockerArchive, Dir:
		b.WriteString(string(r.Transport) + ":" + r.Path)
		if r.Image != "" {
			b.WriteString(":" + r.Image)
		}
		return b.String()
	case ContainersStorage:
		b.WriteString(string(r.Transport) + ":")
		if r.Path != "" {
			b.WriteString("[" + r.Path + "]")
		}
		if r.Image != "" {
			b.WriteString("@" + r.Image)
			return b.String()
		}
	case Docker:
		b.WriteString("docker://")
	}
	b.WriteString(r.Name())
	if r.Tag != "" {
		b.WriteString(":" + r.Tag)
	}
	if r.Digest != "" {
		b.WriteString("@" + r.Digest.String())
	}
	return b.String()
}

// Name is the domain and the repository without tag, digest and transport.
func (r Reference) Name() string {
	if r.Domain == "" {
		return r.Repository
	}
	return r.Domain + "/" + r.Repository
}

// IsShort says that neither a transport nor a registry was given, so that the store, podman's containers and the search
// list of registries.conf may have it.
func (r Reference) IsShort() bool { return r.Transport == None && r.Domain == "" }

// IsRemote says that r names a container in a registry.
func (r Reference) IsRemote() bool {
	return (r.Transport == None || r.Transport == Docker) && r.Domain != ""
}

// WithDefaultTag returns r with the tag "latest" if it is a name that has neither tag nor digest.
func (r Reference) WithDefaultTag() Reference {
	if r.Repository != "" && r.Tag == "" && r.Digest == "" {
		r.Tag = DefaultTag
	}
	return r
}

// Identifier is what a registry is asked for: the digest if there is one, else the tag, else "latest".
func (r Reference) Identifier() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.WithDefaultTag().Tag
}

// In returns the short name r in registry, which is HOST[:PORT][/NAMESPACE...] with or without docker:// before it.
// It is what --from-registry means. A name that says its registry is returned as it is.
func (r Reference) In(registry string) (Reference, error) {
	if !r.IsShort() {
		return r, nil
	}
	full := strings.TrimSuffix(strings.TrimPrefix(registry, "docker://"), "/")
	domain, namespace, _ := strings.Cut(full, "/")
	if domain != "" && domain != "localhost" && !strings.ContainsAny(domain, ".:[") {
		return Reference{}, &Error{Input: registry, Part: "registry", Offset: -1, Suggestion: domain + ":443" + full[len(domain):],
			Reason: "a host without a dot needs its port, and a name of Docker Hub is docker.io/NAME"}
	}
	if err := checkDomain(registry, domain, strings.Index(registry, full)); err != nil {
		return Reference{}, err
	}
	r.Domain = domain
	if namespace != "" {
		if err := checkRepository(registry, namespace, strings.Index(registry, full)+len(domain)+1); err != nil {
			return Reference{}, err
		}
		r.Repository = namespace + "/" + r.Repository
	}
	r = r.normalized()
	if len(r.Name()) > maxNameLength {
		return Reference{}, &Error{Input: r.Name(), Part: "name", Offset: -1, Reason: "it is longer than 255 bytes"}
	}
	return r, nil
}
