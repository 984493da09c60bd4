-- 43 queries on generated hits. Each corresponds to one of ClickBench's queries, but is not a copy, because
-- ClickBench (https://github.com/ClickHouse/ClickBench) is under CC BY-NC-SA 4.0. The names of columns, the
-- constants and the rows are ours. Additional sort columns break ties, so that each query has only one right
-- answer, except the 18th, which may return any ten groups.
select count(*) as n from hits;
select count(*) as n from hits where adv_engine_id <> 0;
select sum(adv_engine_id) as adv, count(*) as n, avg(resolution_width) as width from hits;
select avg(user_id) as mean from hits;
select count(distinct user_id) as users from hits;
select count(distinct search_phrase) as phrases from hits;
select min(event_date) as first, max(event_date) as last from hits;
select adv_engine_id, count(*) as n from hits where adv_engine_id <> 0 group by all order by n desc, 1;
select region_id, count(distinct user_id) as users from hits group by all order by users desc, 1 limit 10;
select region_id, sum(adv_engine_id) as adv, count(*) as n, avg(resolution_width) as width,
    count(distinct user_id) as users
from hits group by region_id order by n desc, 1 limit 10;
select mobile_phone_model, count(distinct user_id) as users
from hits where mobile_phone_model <> '' group by all order by users desc, 1 limit 10;
select mobile_phone, mobile_phone_model, count(distinct user_id) as users
from hits where mobile_phone_model <> '' group by all order by users desc, 1, 2 limit 10;
select search_phrase, count(*) as n from hits where search_phrase <> '' group by all order by n desc, 1 limit 10;
select search_phrase, count(distinct user_id) as users
from hits where search_phrase <> '' group by all order by users desc, 1 limit 10;
select search_engine_id, search_phrase, count(*) as n
from hits where search_phrase <> '' group by all order by n desc, 1, 2 limit 10;
select user_id, count(*) as n from hits group by all order by n desc, 1 limit 10;
select user_id, search_phrase, count(*) as n from hits group by all order by n desc, 1, 2 limit 10;
select user_id, search_phrase, count(*) as n from hits group by all limit 10;
select user_id, minute(event_time) as m, search_phrase, count(*) as n
from hits group by all order by n desc, 1, 2, 3 limit 10;
select user_id from hits where user_id = 3978069188088570377;
select count(*) as n from hits where url like '%quartz/ember%';
select search_phrase, min(url) as url, count(*) as n
from hits where url like '%quartz/ember%' and search_phrase <> '' group by all order by n desc, 1 limit 10;
select search_phrase, min(url) as url, min(title) as title, count(*) as n, count(distinct user_id) as users
from hits where title like '%quartz ember%' and url not like '%/quartz/%' and search_phrase <> ''
group by search_phrase order by n desc, 1 limit 10;
select * from hits where url like '%quartz/ember%' order by event_time, watch_id limit 10;
select search_phrase from hits where search_phrase <> '' order by event_time, watch_id limit 10;
select search_phrase from hits where search_phrase <> '' order by search_phrase limit 10;
select search_phrase from hits where search_phrase <> '' order by event_time, search_phrase limit 10;
select counter_id, avg(length(url)) as mean, count(*) as n
from hits where url <> '' group by all having n > 1000 order by mean desc, 1 limit 25;
select regexp_extract(referer, '^https?://(?:www\.)?([^/]+)/', 1) as host, avg(length(referer)) as mean, count(*) as n,
    min(referer) as least
from hits where referer <> '' group by host having n > 1000 order by mean desc, 1 limit 25;
select sum(resolution_width + 0) as s0, sum(resolution_width + 1) as s1, sum(resolution_width + 2) as s2,
    sum(resolution_width + 3) as s3, sum(resolution_width + 4) as s4, sum(resolution_width + 5) as s5,
    sum(resolution_width + 6) as s6, sum(resolution_width + 7) as s7, sum(resolution_width + 8) as s8,
    sum(resolution_width + 9) as s9, sum(resolution_width + 10) as s10, sum(resolution_width + 11) as s11,
    sum(resolution_width + 12) as s12, sum(resolution_width + 13) as s13, sum(resolution_width + 14) as s14,
    sum(resolution_width + 15) as s15, sum(resolution_width + 16) as s16, sum(resolution_width + 17) as s17,
    sum(resolution_width + 18) as s18, sum(resolution_width + 19) as s19, sum(resolution_width + 20) as s20,
    sum(resolution_width + 21) as s21, sum(resolution_width + 22) as s22, sum(resolution_width + 23) as s23,
    sum(resolution_width + 24) as s24, sum(resolution_width + 25) as s25, sum(resolution_width + 26) as s26,
    sum(resolution_width + 27) as s27, sum(resolution_width + 28) as s28, sum(resolution_width + 29) as s29,
    sum(resolution_width + 30) as s30, sum(resolution_width + 31) as s31, sum(resolution_width + 32) as s32,
    sum(resolution_width + 33) as s33, sum(resolution_width + 34) as s34, sum(resolution_width + 35) as s35,
    sum(resolution_width + 36) as s36, sum(resolution_width + 37) as s37, sum(resolution_width + 38) as s38,
    sum(resolution_width + 39) as s39, sum(resolution_width + 40) as s40, sum(resolution_width + 41) as s41,
    sum(resolution_width + 42) as s42, sum(resolution_width + 43) as s43, sum(resolution_width + 44) as s44,
    sum(resolution_width + 45) as s45, sum(resolution_width + 46) as s46, sum(resolution_width + 47) as s47,
    sum(resolution_width + 48) as s48, sum(resolution_width + 49) as s49, sum(resolution_width + 50) as s50,
    sum(resolution_width + 51) as s51, sum(resolution_width + 52) as s52, sum(resolution_width + 53) as s53,
    sum(resolution_width + 54) as s54, sum(resolution_width + 55) as s55, sum(resolution_width + 56) as s56,
    sum(resolution_width + 57) as s57, sum(resolution_width + 58) as s58, sum(resolution_width + 59) as s59,
    sum(resolution_width + 60) as s60, sum(resolution_width + 61) as s61, sum(resolution_width + 62) as s62,
    sum(resolution_width + 63) as s63, sum(resolution_width + 64) as s64, sum(resolution_width + 65) as s65,
    sum(resolution_width + 66) as s66, sum(resolution_width + 67) as s67, sum(resolution_width + 68) as s68,
    sum(resolution_width + 69) as s69, sum(resolution_width + 70) as s70, sum(resolution_width + 71) as s71,
    sum(resolution_width + 72) as s72, sum(resolution_width + 73) as s73, sum(resolution_width + 74) as s74,
    sum(resolution_width + 75) as s75, sum(resolution_width + 76) as s76, sum(resolution_width + 77) as s77,
    sum(resolution_width + 78) as s78, sum(resolution_width + 79) as s79, sum(resolution_width + 80) as s80,
    sum(resolution_width + 81) as s81, sum(resolution_width + 82) as s82, sum(resolution_width + 83) as s83,
    sum(resolution_width + 84) as s84, sum(resolution_width + 85) as s85, sum(resolution_width + 86) as s86,
    sum(resolution_width + 87) as s87, sum(resolution_width + 88) as s88, sum(resolution_width + 89) as s89
from hits;
select search_engine_id, client_ip, count(*) as n, sum(is_refresh) as again, avg(resolution_width) as width
from hits where search_phrase <> '' group by 1, 2 order by n desc, 1, 2 limit 10;
select watch_id, client_ip, count(*) as n, sum(is_refresh) as again, avg(resolution_width) as width
from hits where search_phrase <> '' group by 1, 2 order by n desc, 1, 2 limit 10;
select watch_id, client_ip, count(*) as n, sum(is_refresh) as again, avg(resolution_width) as width
from hits group by 1, 2 order by n desc, 1, 2 limit 10;
select url, count(*) as n from hits group by all order by n desc, 1 limit 10;
select 1 as one, url, count(*) as n from hits group by 1, 2 order by n desc, 2 limit 10;
select client_ip, client_ip - 1 as a, client_ip - 2 as b, client_ip - 3 as c, count(*) as n
from hits group by 1, 2, 3, 4 order by n desc, 1 limit 10;
select url, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-01' and date '2025-06-30'
    and not_counted = 0 and is_refresh = 0 and url <> ''
group by all order by n desc, 1 limit 10;
select title, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-01' and date '2025-06-30'
    and not_counted = 0 and is_refresh = 0 and title <> ''
group by all order by n desc, 1 limit 10;
select url, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-01' and date '2025-06-30'
    and is_refresh = 0 and is_link <> 0 and is_download = 0
group by all order by n desc, 1 limit 10 offset 100;
select traffic_source_id, search_engine_id, adv_engine_id,
    case when search_engine_id = 0 and adv_engine_id = 0 then referer else '' end as source, url, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-01' and date '2025-06-30' and is_refresh = 0
group by all order by n desc, 1, 2, 3, 4, 5 limit 10 offset 1000;
select url_hash, event_date, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-01' and date '2025-06-30'
    and is_refresh = 0 and traffic_source_id in (-1, 6) and referer_hash = 5586709394571939056
group by all order by n desc, 1, 2 limit 10 offset 10;
select window_width, window_height, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-01' and date '2025-06-30'
    and is_refresh = 0 and not_counted = 0 and url_hash = 3123542291405244629
group by all order by n desc, 1, 2 limit 10 offset 10;
select date_trunc('minute', event_time) as minute, count(*) as n
from hits where counter_id = 3 and event_date between date '2025-06-14' and date '2025-06-15'
    and is_refresh = 0 and not_counted = 0
group by minute order by minute limit 10 offset 100;
