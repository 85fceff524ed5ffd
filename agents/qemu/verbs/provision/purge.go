package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/lock"
	"etcpve/agents/qemu/verbs/job"
	"etcpve/cfs/format/schema"
)

func (j Work) read(ctx context.Context, path string) (string, error) {
	content, err := j.Read(ctx, path)
	return string(content), job.Gone(err)
}

// highlyAvailable reports whether HA looks after a VM.
func (j Work) highlyAvailable(ctx context.Context, vmid uint32) (bool, error) {
	text, err := j.read(ctx, "ha/resources.cfg")
	for line := range strings.Lines(text) {
		if strings.Join(strings.Fields(line), " ") == "vm: "+strconv.FormatUint(uint64(vmid), 10) {
			return true, err
		}
	}
	return false, err
}

// purge takes a VM out of HA, of backup jobs and of replication.
func (j Work) purge(ctx context.Context) error {
	id := strconv.FormatUint(uint64(j.VMID), 10)
	return errors.Join(
		j.revise(ctx, haLock, haResources, func(text string) string { return withoutSection(text, "vm: "+id) }),
		j.revise(ctx, haLock, "ha/rules.cfg", func(text string) string { return withoutMember(text, "resources", "vm:"+id) }),
		j.revise(ctx, lock.File("jobs.cfg"), "jobs.cfg", func(text string) string { return withoutMember(text, "vmid", id) }),
		j.revise(ctx, lock.File(replications), replications, func(text string) string {
			for _, name := range replicationsOf(text, id) {
				text = withoutSection(text, "local: "+name)
			}
			return text
		}),
	)
}

const replications = "replication.cfg"

// replicationsOf are the jobs that replicate a VM: their names begin with its VMID.
func replicationsOf(text, vmid string) (jobs []string) {
	for line := range strings.Lines(text) {
		if job, ok := strings.CutPrefix(strings.Join(strings.Fields(line), " "), "local: "+vmid+"-"); ok && line[0] == 'l' {
			jobs = append(jobs, vmid+"-"+job)
		}
	}
	return jobs
}

// replicated refuses to remove a VM that is replicated.
func (j Work) replicated(ctx context.Context) error {
	text, err := j.read(ctx, replications)
	if jobs := replicationsOf(text, strconv.FormatUint(uint64(j.VMID), 10)); err == nil && jobs != nil {
		err = job.Wording(fmt.Sprintf("There is a replication job '%s' for guest '%d' - Please remove that first.", jobs[0], j.VMID))
	}
	return err
}

// withoutSection removes the section with a header, up to the next header.
func withoutSection(text, header string) string {
	var b strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		if line[0] != ' ' && line[0] != '\t' && strings.TrimSpace(line) != "" {
			skip = strings.Join(strings.Fields(line), " ") == header
		}
		if !skip {
			b.WriteString(line)
		}
	}
	return b.String()
}

// withoutMember removes a member from the list that a key of any section has; a
// list of which nothing is left takes its section with it.
func withoutMember(text, key, member string) string {
	empty, header := []string{}, ""
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		indented := line[0] == ' ' || line[0] == '\t'
		switch {
		case !indented && len(fields) > 0:
			header = strings.Join(fields, " ")
		case indented && len(fields) == 2 && fields[0] == key:
			members := schema.SplitList(fields[1])
			rest := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == member })
			if len(rest) == 0 {
				empty = append(empty, header)
			}
			if len(rest) < len(members) {
				line = "\t" + key + " " + strings.Join(rest, ",") + "\n"
			}
		}
		b.WriteString(line)
	}
	text = b.String()
	for _, header := range empty {
		text = withoutSection(text, header)
	}
	return text
}
