package job

import (
	"context"
	"strconv"
	"strings"

	"etcpve/agents/storage"
)

// Limit is the bandwidth limit in KiB/s of a clone, move or restore between
// volumes or storages, 0 for none: what was asked for, else the lowest of the
// storages, else that of the cluster. Tasks of VMs are the administrator's, who may
// lift a limit.
func (j Job) Limit(ctx context.Context, operation string, volumes ...string) int64 {
	q := storage.Bandwidth{Operation: operation, Can: func(string, string) bool { return true }, Datacenter: j.clusterLimit(ctx), Of: j.storageLimit}
	for _, volume := range volumes {
		id, _, _ := strings.Cut(volume, ":")
		q.Storages = append(q.Storages, id)
	}
	if asked, err := strconv.ParseFloat(j.Text("bwlimit"), 64); err == nil {
		q.Override = &asked
	}
	limit := q.Limit()
	if limit == nil {
		return 0
	}
	return int64(*limit)
}

func (j Job) storageLimit(id string) string {
	s, _, err := j.Catalog.Find(id)
	if err != nil {
		return "" // as for a path, which is on no storage
	}
	return s.Value("bwlimit")
}

func (j Job) clusterLimit(ctx context.Context) string {
	content, err := j.Read(ctx, "datacenter.cfg")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "bwlimit:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
