select sym, max(price) as best from {{ source("nyse", "trades") }} group by sym
